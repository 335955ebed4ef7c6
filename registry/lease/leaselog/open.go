package leaselog

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/pool-managerd/pool-managerd/registry/aside"
	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// Report is what Open found. All fields are empty if the file was good or missing.
type Report struct {
	// Damage is what was wrong with the file, Aside its new name, Kept how many of its leases are
	// in force. Leases with a damaged record are lost.
	Damage error
	Aside  string
	// Kept is also how many leases were taken over from the file of an older version.
	Kept int
	// Torn is how many bytes of an incomplete write were cut off the end. It was never
	// acknowledged.
	Torn int64
	// Gone reports that another process deleted or replaced the file while it was in use. What is
	// there instead is kept as Aside, and the new file has the Kept leases.
	Gone bool
	// Refused is why the file cannot be written. Save tries again each time.
	Refused error
}

// Former reads the leases in a file of an older version, as JSON by id.
type Former func(path string) (map[string][]byte, error)

// Open opens or creates the file. It always returns a usable File: a damaged file is moved aside,
// and its readable leases are written to the new one.
func Open(path string, former Former) (*File, Report) { return open(path, former, system{}) }

func open(path string, former Former, d disk) (*File, Report) {
	f := &File{path: path, disk: d, sizes: usual(), spans: make(map[string]span)}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return f, Report{Refused: fmt.Errorf("lease directory: %w", err)}
	}
	if err := d.remove(path + newSuffix); err != nil && !errors.Is(err, os.ErrNotExist) {
		_, _ = d.moveAside(path + newSuffix) // a directory; if it remains, Save reports it
	}
	r := f.read(former)
	if r.Damage != nil {
		r.Kept = len(f.loaded)
		r.Aside, r.Refused = f.setAside()
	}
	if f.usage == broken && r.Refused == nil {
		r.Refused = f.replace()
	}
	return f, r
}

// read opens the file and reads it to its end.
func (f *File) read(former Former) Report {
	h, err := f.disk.open(f.path, os.O_RDWR)
	if errors.Is(err, syscall.EROFS) {
		h, err = f.disk.open(f.path, os.O_RDONLY)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Report{}
	case aside.Refused(err):
		f.unread = true
		return Report{Refused: err}
	case err != nil:
		return Report{Damage: err}
	}
	f.cur = &volume{handle: h}
	if info, err := h.Stat(); err != nil || !info.Mode().IsRegular() {
		return Report{Damage: errors.Join(errors.New("it is not a regular file"), err)}
	}
	if former != nil && !hasHeader(h) {
		if list, err := former(f.path); err == nil {
			return f.adopt(list)
		}
	}
	locked := h.lock()
	got, err := scan(io.NewSectionReader(h, 0, 1<<62), 0)
	return f.take(got, errors.Join(err, got.damage(), locked))
}

// hasHeader reports whether a file begins with a header of any format of this package.
func hasHeader(h handle) bool {
	begin := make([]byte, len(headerPrefix))
	_, err := h.ReadAt(begin, 0)
	return err == nil && string(begin) == headerPrefix
}

// adopt takes over the leases of an older version's file. Invalid ones are left out, as if they had
// expired.
func (f *File) adopt(list map[string][]byte) Report {
	_ = f.cur.Close()
	f.cur = nil
	for id, text := range list {
		var l lease.Lease
		if json.Unmarshal(text, &l) == nil && l.ID == id && l.Pool != "" {
			f.loaded, f.owed = append(f.loaded, l), append(f.owed, l)
		}
	}
	return Report{Kept: len(f.loaded)}
}

// take puts the leases found in a file in force.
func (f *File) take(got found, damage error) Report {
	f.spans = got.spans
	for id, l := range got.leases {
		f.loaded = append(f.loaded, l)
		f.live += int64(got.spans[id].size)
	}
	if f.cur.end = got.whole; damage != nil {
		return Report{Damage: damage}
	}
	if f.usage = usable; got.torn == 0 {
		return Report{}
	}
	if err := f.cur.Truncate(got.whole); err != nil {
		f.usage = broken
	}
	return Report{Torn: got.torn}
}

// setAside moves the damaged file aside; the open file can still be read.
func (f *File) setAside() (to string, err error) {
	to, err = f.disk.moveAside(f.path)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return to, err
}
