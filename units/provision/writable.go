package provision

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// writable checks that the engine's user could write to what the pool file lists in writable.
func writable(paths []string) error {
	for _, path := range paths {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("writable %s does not exist", path),
				"Create it: install -d -m 1777 "+shell.Quote(path))
		case errors.Is(err, fs.ErrPermission):
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("writable %s: the manager cannot enter %s", path, bring.ClosedAbove(path)),
				"The manager is root without capabilities. Let others enter the folder: chmod o+x "+
					shell.Quote(bring.ClosedAbove(path)))
		case err != nil:
			return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("writable %s: %v", path, bring.Cause(err)),
				"Correct writable: namei -l "+shell.Quote(path))
		case !info.IsDir() && !info.Mode().IsRegular():
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("writable %s is neither a directory nor a file", path),
				"Name its directory: ls -ld "+shell.Quote(path))
		}
		if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("writable %s leads to %s by a symbolic link", path, target),
				"Write the path without links, as this prints it: readlink -f "+shell.Quote(path))
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
				"chmod "+mode+" "+shell.Quote(path))
		}
	}
	return nil
}
