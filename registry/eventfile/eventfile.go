// Package eventfile passes events from one manager to the next, so that readers of events notice a
// restart as little as possible: sequence numbers go on, and what was kept is kept.
//
// It owns the file's format. It must not know who reads events, and how.
package eventfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pool-managerd/pool-managerd/registry"
)

const (
	format  = 1
	maxSize = 16 << 20 // of the file: 1024 events with the last lines of an engine's log
	// reserve is how many numbers a manager may give before the file has a newer one. One that is
	// killed leaves a file that names the end of its reservation, so that no number is given twice.
	// Numbers stay below 2^53, the largest that JavaScript reads, for nine million such ends.
	reserve = 1_000_000_000
)

// File is the file of one manager at a time.
type File struct {
	path  string
	epoch string
}

// content is the file as JSON.
type content struct {
	Format int    `json:"format"`
	Epoch  string `json:"epoch"`
	Whole  bool   `json:"whole"` // written by a manager at its end
	registry.Past
}

// Open reads what the former manager left, and reserves numbers for this one. Without a file, or
// with one that cannot be read, numbers begin with 1 in a new epoch; the error is then about a file
// that is there. The File is never nil.
func Open(path string) (*File, registry.Past, error) {
	was, err := read(path)
	if err != nil {
		was = content{Epoch: strconv.FormatInt(time.Now().UnixMilli(), 36)}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if !was.Whole && was.Last > 0 {
		was.Doubt, was.Events = was.Last, nil
	}
	f := &File{path, was.Epoch}
	next := was.Past
	next.Last, next.Events = next.Last+reserve, nil
	return f, was.Past, errors.Join(err, f.write(next, false))
}

// Epoch identifies the row of numbers: another one has its own.
func (f *File) Epoch() string { return f.epoch }

// Save writes what the next manager continues with.
func (f *File) Save(p registry.Past) error { return f.write(p, true) }

func (f *File) write(p registry.Past, whole bool) error {
	body, err := json.Marshal(content{format, f.epoch, whole, p})
	if err != nil {
		return fmt.Errorf("write the events: %w", err)
	}
	// It holds lines of engines' logs, which not every user may read.
	if err := renameio.WriteFile(f.path, body, 0o600, renameio.WithStaticPermissions(0o600)); err != nil {
		return fmt.Errorf("write the events: %w", err)
	}
	return nil
}

func read(path string) (content, error) {
	file, err := os.Open(path)
	if err != nil {
		return content{}, fmt.Errorf("read the events: %w", err)
	}
	defer file.Close()
	body, err := io.ReadAll(io.LimitReader(file, maxSize+1))
	if err != nil {
		return content{}, fmt.Errorf("read the events: %w", err)
	}
	if len(body) > maxSize {
		return content{}, fmt.Errorf("read the events: %s is longer than %d bytes", path, maxSize)
	}
	return parse(body)
}

// parse reads the file's text.
func parse(body []byte) (content, error) {
	var c content
	if err := json.Unmarshal(body, &c); err != nil {
		return content{}, fmt.Errorf("read the events: %w", err)
	}
	const most = 1<<53 - reserve
	if c.Format != format || !validEpoch(c.Epoch) || c.Last > most || c.Doubt > c.Last {
		return content{}, errors.New("read the events: the file is not of this version, or damaged")
	}
	return c, nil
}

// validEpoch reports whether a text is an epoch: it is a part of each event's id.
func validEpoch(text string) bool {
	if text == "" || len(text) > 16 {
		return false
	}
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}
