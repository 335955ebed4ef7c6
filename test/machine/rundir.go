package machine

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// runRoot holds one directory per running machine. It is short because it holds sockets, whose
// paths end at 107 bytes (unix(7)).
const runRoot = "/run/pool-machines"

// runDir is the directory of one machine: its sockets, its console log, what it was given. It is
// locked as long as the process that made it lives, and removed with the machine.
type runDir struct {
	id   string
	path string
	lock *os.File
}

// newRunDir makes the directory of a new machine, and clears away what dead processes have left of
// theirs.
func newRunDir(ctx context.Context) (*runDir, error) {
	if err := os.MkdirAll(runRoot, 0o700); err != nil {
		return nil, err
	}
	// Between the making of a directory and its locking no other process may sweep.
	all, err := lockFile(ctx, filepath.Join(runRoot, ".lock"))
	if err != nil {
		return nil, err
	}
	defer all.Close()
	if err := sweep(ctx); err != nil {
		return nil, fmt.Errorf("clear away a dead machine: %w", err)
	}
	var random [4]byte
	rand.Read(random[:])
	d := &runDir{id: hex.EncodeToString(random[:])}
	d.path = filepath.Join(runRoot, d.id)
	if err := os.Mkdir(d.path, 0o700); err != nil {
		return nil, err
	}
	if d.lock, err = lockFile(ctx, d.file("lock")); err != nil {
		return nil, errors.Join(err, os.RemoveAll(d.path))
	}
	return d, nil
}

// file is the path of a file in the directory.
func (d *runDir) file(name string) string { return filepath.Join(d.path, name) }

// remove kills what is left in the machine's cgroup and removes both. It may be called again.
func (d *runDir) remove(ctx context.Context) error {
	err := removeMachine(ctx, d.path)
	d.lock.Close()
	return err
}

// sweep removes the machines whose processes are gone. The caller holds the lock of runRoot.
func sweep(ctx context.Context) error {
	entries, err := os.ReadDir(runRoot)
	if err != nil {
		return err
	}
	var failed []error
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		path := filepath.Join(runRoot, e.Name())
		lock, err := os.OpenFile(filepath.Join(path, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
		if errors.Is(err, os.ErrNotExist) {
			continue // its owner removes it at this moment
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		if unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB) == nil {
			failed = append(failed, removeMachine(ctx, path))
		}
		lock.Close()
	}
	return errors.Join(failed...)
}

// The files in a machine's directory that name what it has elsewhere.
const (
	cgroupFile = "cgroup" // the directory of its cgroup
	disksFile  = "disks"  // the directory of its disks, which are too large for /run
)

// removeMachine ends the processes of the machine whose directory is path, then removes all that it
// has.
func removeMachine(ctx context.Context, path string) error {
	var failed []error
	cgroup, err := os.ReadFile(filepath.Join(path, cgroupFile))
	if err == nil {
		failed = append(failed, removeCgroup(ctx, strings.TrimSpace(string(cgroup))))
	}
	disks, err := os.ReadFile(filepath.Join(path, disksFile))
	if err == nil {
		failed = append(failed, os.RemoveAll(string(disks)))
	}
	// systemd-nspawn leaves directories when it is killed: propagate/NAME, and unix-export/NAME
	// from version 256.
	left, err := filepath.Glob("/run/systemd/nspawn/*/" + nameOnHost(filepath.Base(path)))
	failed = append(failed, err)
	for _, dir := range left {
		failed = append(failed, os.RemoveAll(dir))
	}
	return errors.Join(append(failed, os.RemoveAll(path))...)
}

// nameOnHost is what systemd-nspawn, the cgroup and the host's systemd call a machine.
func nameOnHost(id string) string { return "pool-machine-" + id }

// makeCgroup makes the machine's cgroup below the root of the hierarchy, and records it first.
func (d *runDir) makeCgroup(mount string) (string, error) {
	path := filepath.Join(mount, nameOnHost(d.id))
	if err := os.WriteFile(d.file(cgroupFile), []byte(path), 0o600); err != nil {
		return "", err
	}
	return path, makeCgroup(mount, path)
}

// makeDisks makes a directory in the cache for the disks of the machine.
func (d *runDir) makeDisks() (string, error) {
	cache, err := CacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "running", d.id)
	if err := os.WriteFile(d.file(disksFile), []byte(dir), 0o600); err != nil {
		return "", err
	}
	return dir, os.MkdirAll(dir, 0o700)
}
