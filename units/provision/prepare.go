package provision

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/programs"
)

// searchPath is where a binary without a folder is looked for: the path that systemd gives to
// services (systemd.exec(5), "Environment Variables"), not that of the shell that started the
// manager.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"}

// Preparer finds the engine. Its method may be called from many goroutines.
type Preparer struct {
	Store   *Store
	Capture Capture
	Gate    string // path of pool-gate
	Log     *slog.Logger

	versions questions
	silent   silence
}

// Prepare finds the pool's binary, checks that it could be executed by the engine's user, and asks
// it for its version. The error is a *registry.Failure, or that of the context.
func (pr *Preparer) Prepare(ctx context.Context, p pool.Pool, a engine.Adapter) (pool.Prepared, error) {
	path, err := find(p, a)
	if err != nil {
		return pool.Prepared{}, err
	}
	if err := executable(path); err != nil {
		return pool.Prepared{}, err
	}
	if err := recognised(path); err != nil {
		return pool.Prepared{}, err
	}
	path = notLinked(path)
	files := host()
	needs := programs.Resolve(files, path, p.Variables())
	if err := pr.lacking(p, needs); err != nil {
		return pool.Prepared{}, err
	}
	if err := reachable(path, needs); err != nil {
		return pool.Prepared{}, err
	}
	if err := writable(p.Writable); err != nil {
		return pool.Prepared{}, err
	}
	prepared := pool.Prepared{Binary: path, Programs: needs.Programs, ReadOnly: companions(files, needs),
		Env: partsOf(files, needs)}
	if a.VersionArgs(prepared.Binary) == nil {
		return prepared, nil
	}
	prepared.Version, err = pr.version(ctx, prepared, p, a, foreign(needs.Machine))
	if err != nil {
		return pool.Prepared{}, err
	}
	return prepared, nil
}

// find returns the absolute path of the pool's binary.
func find(p pool.Pool, a engine.Adapter) (string, error) {
	name := p.Provisioning.Binary
	if name == "" {
		name = a.DefaultBinary()
	}
	if name == "" {
		return "", registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("engine %s has no default binary", p.Engine),
			"Set it: [provisioning] binary = \"/usr/bin/…\".")
	}
	if filepath.IsAbs(name) {
		return filepath.Clean(name), nil
	}
	for _, dir := range searchPath {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path, nil
		}
	}
	return "", registry.Fail(registry.CodeProvisionFailed,
		fmt.Sprintf("no binary %s in %s", name, strings.Join(searchPath, ", ")),
		fmt.Sprintf("Install %s, or name its path: [provisioning] binary = \"/…/%s\".", p.Engine, name))
}

// executable checks what execve(2) by the engine's dynamic user would.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s does not exist", path),
			"Install the engine, or correct [provisioning] binary.")
	case errors.Is(err, fs.ErrPermission):
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s: the manager cannot enter %s", path, closedAbove(path)),
			"The manager is root without capabilities: let others enter the folders above the binary (chmod o+x), or "+
				"install it under /usr/local or /opt.")
	case err != nil:
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s: %v", path, cause(err)),
			"Correct [provisioning] binary.")
	case !info.Mode().IsRegular():
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s is not a regular file (%s)", path, info.Mode().Type()), "Name the program itself.")
	case info.Mode().Perm()&0o001 == 0:
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s has mode %04o: the engine's user cannot execute it", path, info.Mode().Perm()),
			fmt.Sprintf("chmod o+rx '%s'", path))
	}
	return nil
}

// reachable checks the folders above the files of a binary as the engine's user passes them. In a
// hidden tree that is only the file's own folder, which PID 1 binds there; PID 1 creates the ones
// above it.
func reachable(binary string, needs programs.Needs) error {
	for _, p := range needs.Certain {
		dir := filepath.Dir(p)
		if personal(dir) || ofSystem(p) {
			continue
		}
		for above := dir; above != "/" && (above == dir || !hidden(p)); above = filepath.Dir(above) {
			info, err := os.Stat(above)
			if err == nil && info.Mode().Perm()&0o001 == 0 {
				return registry.Fail(registry.CodeProvisionFailed,
					fmt.Sprintf("binary %s: folder %s has mode %04o, and the engine's user cannot enter it for %s",
						binary, above, info.Mode().Perm(), filepath.Base(p)),
					fmt.Sprintf("chmod o+rx '%s'", above))
			}
		}
	}
	return nil
}

// recognised checks that the kernel can tell what a file is: a program, or a script that the
// engine's user can read.
func recognised(path string) error {
	head, err := firstBytes(path, 4)
	switch {
	case err != nil: // executable but not readable is fine for a program
		return nil
	case string(head) == elf.ELFMAG:
		return nil
	case !strings.HasPrefix(string(head), "#!"):
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s is neither a program nor a script", path), "Name the engine's program.")
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 == 0 {
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("script %s has mode %04o: the engine's user cannot read it", path, info.Mode().Perm()),
			fmt.Sprintf("chmod o+rx '%s'", path))
	}
	return nil
}
