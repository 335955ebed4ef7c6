package leaselog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// Report sets what is called for a file that was gone and was written again. It is called before
// the first Save.
func (f *File) Report(report func(Report)) { f.report = report }

// Check writes the file again if another process deleted or replaced it. Save does the same before
// it writes: what it acknowledges is in the file that the next process opens.
func (f *File) Check() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		_ = f.restore() // a failure is reported by Save, which tries again
	}
}

// restore replaces a file that is gone by one with everything that the open one has; the caller
// holds the lock.
func (f *File) restore() error {
	if f.usage != usable || !f.gone() {
		return nil
	}
	r := Report{Gone: true, Kept: len(f.spans)}
	if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
		return fmt.Errorf("%s is gone, and could not be written again: %w", f.path, err)
	}
	if _, err := os.Lstat(f.path); err == nil {
		if r.Aside, err = f.setAside(); err != nil {
			return fmt.Errorf("another file is in the place of %s: %w", f.path, err)
		}
	}
	if err := f.replace(); err != nil {
		return fmt.Errorf("%s is gone, and could not be written again: %w", f.path, err)
	}
	if f.report != nil {
		f.report(r)
	}
	return nil
}

// gone reports whether the path no longer leads to the file in use.
func (f *File) gone() bool {
	open, err := f.cur.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(f.path)
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !os.SameFile(open, now)
}
