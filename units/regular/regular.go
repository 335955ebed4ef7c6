// Package regular opens files in directories that another user may write to. A pipe, a device or a
// socket in the place of a file keeps no reader waiting, and is an error.
package regular

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// ErrOther means that a path leads to something else than a regular file.
var ErrOther = errors.New("it is not a regular file")

// Open opens a regular file for reading, and returns what is known of the open file. It follows
// symbolic links.
func Open(path string) (*os.File, fs.FileInfo, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: path, Err: ErrOther}
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}
