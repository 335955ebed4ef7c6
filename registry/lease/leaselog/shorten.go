package leaselog

import (
	"fmt"
	"os"
)

// newSuffix is the suffix of the file that will replace the one in use.
const newSuffix = ".new"

// sizes are the limits for replacing a file, in bytes. Each batch copies some leases, so that none
// waits for the copying of many; enough of them that the copying ends.
type sizes struct {
	shortest int64 // a file is replaced when it is larger and mostly obsolete
	step     int   // a batch copies at least this, or twice what it adds
}

func usual() sizes { return sizes{shortest: 1 << 20, step: 128 << 10} }

// copying is a replacement in progress. Until it is renamed, the file in use has everything.
type copying struct {
	to   *volume
	todo []string // ids that may have to be copied
	buf  []byte
}

// shorten continues a replacement of the file, or begins one if it is due. Its failures cost only
// space: the file in use stays.
func (f *File) shorten() {
	if f.work == nil {
		if f.cur.end < f.sizes.shortest || f.cur.end < 2*f.live {
			return
		}
		if err := f.begin(); err != nil {
			return
		}
	} else if err := f.mirror(); err != nil {
		f.abandon()
		return
	}
	if f.copySome(max(f.sizes.step, 2*len(f.buf))) != nil {
		f.abandon()
		return
	}
	if len(f.work.todo) == 0 && f.finish() != nil {
		f.abandon()
	}
}

// replace writes a new file at once: the one in use cannot be written, or there is none.
func (f *File) replace() error {
	f.abandon()
	if f.unread {
		if _, err := f.setAside(); err != nil {
			return err
		}
		f.unread = false
	}
	if err := f.begin(); err != nil {
		return err
	}
	err := f.writeOwed()
	for err == nil && len(f.work.todo) > 0 {
		err = f.copySome(f.sizes.step)
	}
	if err == nil {
		err = f.finish()
	}
	if err != nil {
		f.abandon()
		return err
	}
	f.owed = nil
	return nil
}

// writeOwed writes the leases that are not yet in a file of this format.
func (f *File) writeOwed() error {
	if err := f.encode(f.owed, nil); err != nil {
		return err
	}
	to := f.work.to
	at := to.end
	if err := f.append(to, f.buf); err != nil {
		return err
	}
	f.count(at, to.number)
	return nil
}

// begin creates the new file.
func (f *File) begin() error {
	h, err := f.disk.open(f.path+newSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	to := &volume{handle: h}
	if f.cur != nil {
		to.number = 1 - f.cur.number
	}
	f.work = &copying{to: to, todo: make([]string, 0, len(f.spans))}
	if err := h.lock(); err != nil {
		f.abandon()
		return err
	}
	if err := f.append(to, []byte(headerLine())); err != nil {
		f.abandon()
		return fmt.Errorf("write %s: %w", f.path+newSuffix, err)
	}
	for id := range f.spans {
		f.work.todo = append(f.work.todo, id)
	}
	return nil
}

// mirror appends the newest batch to the new file, too.
func (f *File) mirror() error {
	to := f.work.to
	at := to.end
	if err := f.append(to, f.buf); err != nil {
		return err
	}
	for _, a := range f.added {
		if s, ok := f.spans[a.id]; ok {
			s.at[to.number] = at + a.from
			f.spans[a.id] = s
		}
	}
	return nil
}

// copySome copies about that many bytes of current lines. One that was written again since
// is copied as it is now, and is there twice.
func (f *File) copySome(bytes int) error {
	w := f.work
	w.buf = w.buf[:0]
	at := w.to.end
	for len(w.todo) > 0 && len(w.buf) < bytes {
		id := w.todo[len(w.todo)-1]
		w.todo = w.todo[:len(w.todo)-1]
		s, ok := f.spans[id]
		if !ok {
			continue // it was dropped since
		}
		line := len(w.buf)
		w.buf = append(w.buf, make([]byte, s.size)...)
		if _, err := f.cur.ReadAt(w.buf[line:], s.at[f.cur.number]); err != nil {
			return err
		}
		s.at[w.to.number] = at + int64(line)
		f.spans[id] = s
	}
	return f.append(w.to, w.buf)
}

// finish replaces the file in use with the new one.
func (f *File) finish() error {
	if err := f.disk.rename(f.path+newSuffix, f.path); err != nil {
		return err
	}
	if f.cur != nil {
		_ = f.cur.Close() // it is no longer written to
	}
	f.cur, f.usage, f.work = f.work.to, usable, nil
	return nil
}

// abandon ends a replacement that could not be completed.
func (f *File) abandon() {
	if f.work == nil {
		return
	}
	_ = f.work.to.Close()
	_ = f.disk.remove(f.path + newSuffix) // if it remains, the next replacement truncates it
	f.work = nil
}
