package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"go.etcd.io/bbolt"
)

// Check restores the file if another process deleted or replaced it. Update does the same before
// it writes: what it acknowledges is in the file that the next process opens.
func (f *File) Check() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed && f.gone() {
		_ = f.restore() // it is reported
	}
}

// gone reports whether the path no longer leads to the open file; the caller holds the lock.
func (f *File) gone() bool {
	if f.db == nil || f.opened == nil || f.db.IsReadOnly() {
		return false
	}
	now, err := os.Stat(f.path)
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil &&
		!os.SameFile(f.opened, now)
}

// restore writes the entries of the open file, which can still be read, to a new one at the path,
// and reports it. Where that fails, the open file stays in use for reading, and the next Check or
// Update tries again; a failure is reported once.
func (f *File) restore() error {
	r := Report{Path: f.path, Gone: true}
	got, err := f.entries()
	if err == nil {
		err = os.MkdirAll(filepath.Dir(f.path), 0o700)
	}
	former := f.db
	if err == nil {
		err = f.replace(got, &r.Aside)
	}
	if err != nil {
		f.db = former
		r.Refused = fmt.Errorf("%s is gone, and could not be written again: %w", f.path, err)
		if !f.gaveUp {
			f.report(r)
		}
		f.gaveUp = true
		return r.Refused
	}
	f.gaveUp = false
	_ = former.Close() // no directory has it any longer
	for _, entries := range got {
		r.Kept += len(entries)
	}
	f.report(r)
	return nil
}

// entries reads everything in the open file.
func (f *File) entries() (contents, error) {
	got := make(contents)
	err := f.guarded(func() error {
		return f.db.View(func(tx *bbolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
				entries := make(map[string][]byte)
				got[string(name)] = entries
				return b.ForEach(func(key, value []byte) error {
					entries[string(key)] = bytes.Clone(value)
					return nil
				})
			})
		})
	})
	return got, err
}
