package leaselog

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry/aside"
)

// disk has every operation on the file system, so that tests can make each fail or end the process
// there.
type disk interface {
	open(path string, flag int) (handle, error)
	rename(from, to string) error
	remove(path string) error
	moveAside(path string) (to string, err error)
}

// handle is an open file.
type handle interface {
	ReadAt(p []byte, at int64) (int, error)
	WriteAt(p []byte, at int64) (int, error)
	Truncate(size int64) error
	Stat() (os.FileInfo, error)
	Close() error
	lock() error
}

// system is the disk of this host.
type system struct{}

func (system) open(path string, flag int) (handle, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return file{f}, nil
}

func (system) rename(from, to string) error { return os.Rename(from, to) }
func (system) remove(path string) error     { return os.Remove(path) }

func (system) moveAside(path string) (string, error) { return aside.Move(path, time.Now()) }

type file struct{ *os.File }

// errLocked is returned if another process has locked the file.
var errLocked = errors.New("another process has the file locked")

// How long to wait for a lock, and how often to try: a killed process may not have exited yet.
const (
	lockWait  = 2 * time.Second
	lockRetry = 20 * time.Millisecond
)

// lock locks the file for this process. The lock ends with the process.
func (f file) lock() error {
	for until := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		case time.Now().After(until):
			return errLocked
		}
	}
}
