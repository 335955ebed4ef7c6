package cgroups

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"syscall"
)

// Members knows which cgroups are one of some directories of the tree or below it, by their ids, as
// the kernel reports them of a socket. Its methods may be called from any goroutine.
type Members struct {
	dirs  []string
	mu    sync.Mutex
	known map[uint64]bool
}

// knownLimit bounds how many ids are kept, and walkLimit how many directories one look visits.
const (
	knownLimit = 4096
	walkLimit  = 65536
)

// NewMembers returns the members of the control groups below root. Where root has cgroup v1
// controllers too, the v2 tree is in its directory unified (systemd's hybrid hierarchy).
func NewMembers(root string, controlGroups ...string) *Members {
	m := &Members{known: make(map[uint64]bool)}
	for _, group := range controlGroups {
		m.dirs = append(m.dirs, filepath.Join(root, group), filepath.Join(root, "unified", group))
	}
	return m
}

// Has reports whether a cgroup that exists is a member. The kernel uses an id once, and cgroups are
// never moved, so an answer stays true.
func (m *Members) Has(id uint64) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if is, ok := m.known[id]; ok {
		return is, nil
	}
	is, err := m.look(id)
	if err != nil {
		return false, err
	}
	if len(m.known) >= knownLimit {
		clear(m.known)
	}
	m.known[id] = is
	return is, nil
}

// look walks the directories.
func (m *Members) look(id uint64) (bool, error) {
	errFound, visited := errors.New("found"), 0
	for _, dir := range m.dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist): // it is gone by now, and so are its processes
				return nil
			case err != nil:
				return err
			case !d.IsDir():
				return nil
			}
			if visited++; visited > walkLimit {
				return fmt.Errorf("%s has more than %d directories", dir, walkLimit)
			}
			var st syscall.Stat_t
			if err := syscall.Lstat(path, &st); err == nil && st.Ino == id {
				return errFound
			} else if err != nil && !errors.Is(err, os.ErrNotExist) {
				return &os.PathError{Op: "lstat", Path: path, Err: err}
			}
			return nil
		})
		if errors.Is(err, errFound) {
			return true, nil
		}
		if err != nil {
			return false, fmt.Errorf("control groups below %s: %w", dir, err)
		}
	}
	return false, nil
}
