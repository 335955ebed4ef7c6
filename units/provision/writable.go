package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/registry"
)

// writable checks that the engine's user could write to what the pool file lists in writable.
func writable(paths []string) error {
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("writable %s does not exist", path),
				fmt.Sprintf("Create it: install -d -m 1777 '%s'.", path))
		case errors.Is(err, fs.ErrPermission):
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("writable %s: the manager cannot enter %s", path, closedAbove(path)),
				"The manager is root without capabilities: let others enter the folders above it (chmod o+x).")
		case err != nil:
			return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("writable %s: %v", path, cause(err)),
				"Correct writable.")
		case !info.IsDir() && !info.Mode().IsRegular():
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("writable %s is neither a directory nor a file", path), "Name its directory.")
		}
		if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("writable %s leads to %s by a symbolic link", path, target),
				"Write the path without links.")
		}
		const write, enter = 0o002, 0o001
		if perm := info.Mode().Perm(); perm&write == 0 || info.IsDir() && perm&enter == 0 {
			mode := "1777"
			if !info.IsDir() {
				mode = "0666"
			}
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("writable %s has mode %04o: the engine's user, which is its own, cannot write to it", path,
					perm),
				fmt.Sprintf("chmod %s '%s'", mode, path))
		}
	}
	return nil
}
