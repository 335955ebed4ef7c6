package leaselog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Rescue writes everything that the file has to another path, if the file is gone and cannot be
// written again: its directory was deleted, and only PID 1 can make that again, for the next
// process. Until then Save fails, so that nothing is acknowledged that the other file lacks. It
// returns how many leases there are, and whether it was necessary.
func (f *File) Rescue(to string) (kept int, gone bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.usage != usable || !f.gone() || f.restore() == nil {
		return 0, false, nil
	}
	if err := replaceFile(to, io.NewSectionReader(f.cur, 0, f.cur.end)); err != nil {
		return 0, true, fmt.Errorf("rescue leases: %w", err)
	}
	return len(f.spans), true, nil
}

// Recover puts a rescued file in the place of the one that is to be opened, and removes it there.
// Where there is one, it is newer, and the rescued one is only removed.
func Recover(path, rescued string) (recovered bool, err error) {
	from, err := os.Open(rescued)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer from.Close()
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		if err := replaceFile(path, from); err != nil {
			return false, err
		}
		recovered = true
	}
	return recovered, os.Remove(rescued)
}

// replaceFile replaces a file by what it reads, whole or not at all.
func replaceFile(path string, from io.Reader) error {
	part := path + newSuffix
	to, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err = errors.Join(err, to.Sync(), to.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return nil
}
