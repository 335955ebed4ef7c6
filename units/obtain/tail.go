package obtain

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// outputMost is the size in bytes above which the output of a unit is truncated, once it was read.
// PID 1 opened it to append, so that the program goes on at the beginning.
const outputMost = 1 << 20

// readMost bounds what is read of an output at a time.
const readMost = 2 << 20

// tail reads what a unit appends to the file of its output.
type tail struct {
	path    string
	offset  int64
	decoder wire.Decoder
}

// read returns the events that were added since the last call. A file that is not there, or was
// truncated by another, has none.
func (t *tail) read() []wire.Event {
	f, err := os.OpenFile(t.path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrPermission) {
		f, err = os.Open(t.path)
	}
	if err != nil {
		return nil
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil
	}
	if info.Size() < t.offset {
		t.offset = 0
	}
	data, _ := io.ReadAll(io.NewSectionReader(f, t.offset, readMost))
	t.offset += int64(len(data))
	if t.offset > outputMost {
		// What is appended between the read and this is lost; a result that is, is found on disk.
		if f.Truncate(0) == nil {
			t.offset = 0
		}
	}
	return t.decoder.Feed(data)
}
