package machine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Each container machine has a cgroup of its own. systemd-nspawn with --keep-unit makes its groups
// "payload" and "supervisor" below the group it is started in, so that two machines started from
// one group would share them and stop each other's services.

// cgroup2Mount returns where the unified hierarchy is mounted: /sys/fs/cgroup, or beside the
// version 1 controllers on a hybrid host.
func cgroup2Mount() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if field := strings.Fields(s.Text()); len(field) > 2 && field[2] == "cgroup2" {
			return field[1], nil
		}
	}
	return "", errors.New("this host has no cgroup2 hierarchy: run mount -t cgroup2 none /sys/fs/cgroup")
}

// makeCgroup makes the group at path, below the root of the hierarchy, with all controllers that
// the root has to give.
func makeCgroup(mount, path string) error {
	if err := os.Mkdir(path, 0o755); err != nil {
		return fmt.Errorf("make a cgroup for the machine: %w", err)
	}
	controllers, err := os.ReadFile(filepath.Join(mount, "cgroup.controllers"))
	if err != nil {
		return err
	}
	for _, c := range strings.Fields(string(controllers)) {
		// A controller that cannot be had is missing in the machine too, where Require finds that
		// out.
		_ = os.WriteFile(filepath.Join(mount, "cgroup.subtree_control"), []byte("+"+c), 0o644)
	}
	return nil
}

// removeCgroup kills every process in the group and below it, waits for them to be gone, and
// removes the groups, also those of the same name that systemd-nspawn makes in the named hierarchy
// of a hybrid host.
func removeCgroup(ctx context.Context, path string) error {
	mount, err := cgroup2Mount()
	if err != nil {
		return err
	}
	name, ok := strings.CutPrefix(path, mount+"/")
	if !ok || name == "" || strings.Contains(name, "..") {
		return fmt.Errorf("%q is not a cgroup of a machine", path)
	}
	if err := killCgroup(ctx, path); err != nil {
		return err
	}
	mirror := filepath.Join(filepath.Dir(mount), "systemd", name)
	return errors.Join(removeGroups(ctx, path), removeGroups(ctx, mirror))
}

// killCgroup sends SIGKILL to all in the group (cgroup.kill, Linux 5.14) and returns when none is
// left.
func killCgroup(ctx context.Context, path string) error {
	for {
		err := os.WriteFile(filepath.Join(path, "cgroup.kill"), []byte("1"), 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("kill what is left of a machine: %w", err)
		}
		events, err := os.ReadFile(filepath.Join(path, "cgroup.events"))
		if errors.Is(err, fs.ErrNotExist) || strings.Contains(string(events), "populated 0") {
			return nil
		}
		if err := pause(ctx, "the processes of a machine to die"); err != nil {
			return err
		}
	}
}

// removeGroups removes a tree of empty groups, deepest first. The kernel may need a moment after
// the last process is gone.
func removeGroups(ctx context.Context, path string) error {
	for {
		var last error
		var dirs []string
		err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, p)
			}
			return nil // a group that disappeared during the walk is removed already
		})
		if err != nil {
			return err
		}
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := os.Remove(dirs[i]); err != nil && !errors.Is(err, fs.ErrNotExist) {
				last = err
			}
		}
		if last == nil {
			return nil
		}
		if err := pause(ctx, "a cgroup to become empty"); err != nil {
			return errors.Join(err, last)
		}
	}
}

// pause waits a short time for what; the error means that ctx ended first.
func pause(ctx context.Context, what string) error {
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for %s: %w", what, ctx.Err())
	case <-time.After(10 * time.Millisecond):
		return nil
	}
}
