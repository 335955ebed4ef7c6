package boltfile

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Values returns the entries of a bucket of an undamaged file. It changes nothing.
func Values(path, bucket string) (map[string][]byte, error) {
	got, err := read(path)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return got[bucket], nil
}

// read returns the readable entries of a file, and why it cannot be used.
func read(path string) (contents, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("it is not a file: %s", info.Mode().Type())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	lock := waitLock(file)
	got, err := parse(file)
	return got, errors.Join(lock, err)
}

var errLocked = errors.New("another process has the file locked")

// waitLock waits until no process has the file open for writing.
func waitLock(file *os.File) error {
	for until := time.Now().Add(lockWait); ; time.Sleep(lockWait / 100) {
		err := unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB)
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("lock: %w", err)
		case time.Now().After(until):
			return errLocked
		}
	}
}
