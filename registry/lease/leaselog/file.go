// Package leaselog stores leases in a file that survives the manager: lines of text that are only
// appended, one write for all concurrent callers, and replaced by a shorter file when most of its
// lines are obsolete.
//
// It owns the format, the handling of a damaged file, and the guarantee that the file has
// everything that Save returned without an error. It must not know what a lease means. The file is
// in memory, as /run is: nothing waits for a disk, and a killed process loses nothing that it
// wrote.
package leaselog

import (
	"fmt"
	"os"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry/lease"
)

var _ lease.Store = (*File)(nil)

// File is a lease.Store. Save and Check may be called from any goroutine.
type File struct {
	mu     sync.Mutex
	report func(Report)
	path   string
	disk   disk
	sizes  sizes
	loaded []lease.Lease // until Load has returned them
	owed   []lease.Lease // in force, and in no file of this format yet
	unread bool          // the file could not be opened, and may be good
	closed bool

	cur   *volume         // the file in use; nil: there is none
	usage usage           // how cur may be used
	spans map[string]span // of the leases that count
	live  int64           // bytes of their lines
	work  *copying        // the replacement of cur in progress; nil: none
	buf   []byte          // the newest batch, and its records
	added []spanOf
}

// usage is how the file in use may be used.
type usage int

const (
	broken usage = iota // it may be read, and is replaced by the next Save
	usable
)

// volume is a file, and where its last line ends.
type volume struct {
	handle
	end    int64
	number int // 0 or 1: which of a span's positions is of this file
}

// spanOf is a record that a batch adds; a size of 0 is a drop.
type spanOf struct {
	id   string
	from int64 // from the start of the batch
	size int32
}

// Load implements lease.Store.
func (f *File) Load() ([]lease.Lease, error) {
	list := f.loaded
	f.loaded = nil
	return list, nil
}

// Save implements lease.Store. After an error, nothing of the batch is in force.
func (f *File) Save(put []lease.Lease, drop []string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	if err := f.restore(); err != nil {
		return err
	}
	if f.usage == broken {
		if err := f.replace(); err != nil {
			return err
		}
	}
	if err := f.encode(put, drop); err != nil {
		return err
	}
	at := f.cur.end
	if err := f.append(f.cur, f.buf); err != nil {
		return fmt.Errorf("write %s: %w", f.path, err)
	}
	f.count(at, f.cur.number)
	f.shorten()
	return nil
}

// encode fills buf and added with a batch.
func (f *File) encode(put []lease.Lease, drop []string) (err error) {
	f.buf, f.added = f.buf[:0], f.added[:0]
	for i := range put {
		from := int64(len(f.buf))
		if f.buf, err = appendRecord(f.buf, record{Put: &put[i]}); err != nil {
			return err
		}
		f.added = append(f.added, spanOf{put[i].ID, from, int32(int64(len(f.buf)) - from)})
	}
	for _, id := range drop {
		if f.buf, err = appendRecord(f.buf, record{Drop: id}); err != nil {
			return err
		}
		f.added = append(f.added, spanOf{id: id})
	}
	return nil
}

// append writes lines to the end of a file, all or none of them.
func (f *File) append(v *volume, lines []byte) error {
	_, err := v.WriteAt(lines, v.end)
	if err == nil {
		v.end += int64(len(lines))
		return nil
	}
	if cut := v.Truncate(v.end); cut != nil && v == f.cur {
		f.usage = broken // part of the lines may be there
	}
	return err
}

// count records the batch that was written at that offset of a volume.
func (f *File) count(at int64, number int) {
	for _, a := range f.added {
		f.live += int64(a.size) - int64(f.spans[a.id].size)
		if a.size == 0 {
			delete(f.spans, a.id)
			continue
		}
		s := span{size: a.size}
		s.at[number] = at + a.from
		f.spans[a.id] = s
	}
}

// Close closes the file.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.abandon()
	f.closed = true
	if f.cur == nil {
		return nil
	}
	err := f.cur.Close()
	f.cur = nil
	return err
}
