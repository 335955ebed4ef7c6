package provision

import (
	"context"
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
)

// searchPath is where a binary without a folder is looked for: the path that systemd gives to
// services (systemd.exec(5), "Environment Variables"), not that of the shell that started the
// manager.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"}

// Preparer finds the engine. Its method may be called from many goroutines.
type Preparer struct {
	Store   *Store
	Capture Capture
	Log     *slog.Logger

	versions questions
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
	interpreter, err := interpreterOf(path)
	if err != nil {
		return pool.Prepared{}, err
	}
	if err := writable(p.Writable); err != nil {
		return pool.Prepared{}, err
	}
	prepared := pool.Prepared{Binary: path, ReadOnly: companions(path, interpreter, p.Env)}
	if a.VersionArgs() == nil {
		return prepared, nil
	}
	prepared.Version, err = pr.version(ctx, prepared, p, a)
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
	return reachable(path)
}

// reachable checks the folders above the binary as the engine's user passes them. In a hidden tree
// that is only the binary's own folder, which PID 1 binds there; PID 1 creates the ones above it.
func reachable(path string) error {
	for _, p := range chain(path) {
		dir := filepath.Dir(p)
		if personal(dir) {
			continue
		}
		for above := dir; above != "/" && (above == dir || !hidden(p)); above = filepath.Dir(above) {
			info, err := os.Stat(above)
			if err == nil && info.Mode().Perm()&0o001 == 0 {
				return registry.Fail(registry.CodeProvisionFailed,
					fmt.Sprintf("binary %s: its folder %s has mode %04o, and the engine's user cannot enter it", path,
						above, info.Mode().Perm()),
					fmt.Sprintf("chmod o+rx '%s'", above))
			}
		}
	}
	return nil
}

// interpreterOf returns the interpreter of a script, "" for a program, and checks that it exists:
// execve(2) would only report "no such file".
func interpreterOf(path string) (string, error) {
	head, err := firstBytes(path, 256) // BINPRM_BUF_SIZE of linux/binfmts.h: the kernel reads this much
	if err != nil {
		return "", nil // executable but not readable is fine for a program
	}
	if strings.HasPrefix(string(head), "\x7fELF") {
		return "", nil
	}
	line, script := strings.CutPrefix(string(head), "#!")
	if !script {
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s is neither a program nor a script", path), "Name the engine's program.")
	}
	line, _, _ = strings.Cut(line, "\n")
	program, _, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
	program = strings.TrimRight(program, "\r\t")
	if info, err := os.Stat(program); err != nil || !info.Mode().IsRegular() {
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("script %s needs the interpreter %q, which does not exist", path, program),
			"Install the interpreter, or install the engine again.")
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 == 0 {
		return "", registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("script %s has mode %04o: the engine's user cannot read it", path, info.Mode().Perm()),
			fmt.Sprintf("chmod o+rx '%s'", path))
	}
	return program, nil
}
