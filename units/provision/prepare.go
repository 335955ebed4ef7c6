package provision

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// searchPath is where a binary without a folder is looked for: the path that systemd gives to services
// (systemd.exec(5), "Environment Variables"), not that of whoever started the manager.
var searchPath = []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"}

// Preparer finds the engine. Its method may be called from many goroutines.
type Preparer struct {
	Store   *Store
	Capture Capture
	Log     *slog.Logger
}

// Prepare finds the pool's binary, checks that it could be executed by the engine's user, and has it say its
// version. The error is a *registry.Failure.
func (pr *Preparer) Prepare(ctx context.Context, p pool.Pool, a engine.Adapter) (pool.Prepared, error) {
	path, err := find(p, a)
	if err != nil {
		return pool.Prepared{}, err
	}
	if err := executable(path); err != nil {
		return pool.Prepared{}, err
	}
	prepared := pool.Prepared{Binary: path, ReadOnly: companions(path), Version: unknownVersion}
	if a.VersionArgs() == nil {
		return prepared, nil
	}
	prepared.Version, err = pr.version(ctx, prepared, a)
	return prepared, err
}

// find returns the absolute path of the pool's binary.
func find(p pool.Pool, a engine.Adapter) (string, error) {
	name := p.Provisioning.Binary
	if name == "" {
		name = a.DefaultBinary()
	}
	if name == "" {
		return "", registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("engine %s has no usual binary", p.Engine), "Name it: [provisioning] binary = \"/usr/bin/…\".")
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
	return "", registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("no binary %s in %s", name, strings.Join(searchPath, ", ")),
		fmt.Sprintf("Install %s, or name its path: [provisioning] binary = \"/…/%s\".", p.Engine, name))
}

// executable checks what execve(2) by the engine's dynamic user would.
func executable(path string) error {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s does not exist", path), "Install the engine, or correct [provisioning] binary.")
	case errors.Is(err, fs.ErrPermission):
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s: the manager may not look into %s", path, closedAbove(path)),
			"The manager is root without capabilities: let others enter the folders above the binary (chmod o+x), or install it under /usr/local or /opt.")
	case err != nil:
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s: %v", path, errors.Unwrap(err)), "Correct [provisioning] binary.")
	case !info.Mode().IsRegular():
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s is no regular file (%s)", path, info.Mode().Type()), "Name the program itself.")
	case info.Mode().Perm()&0o001 == 0:
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s has mode %04o: the engine's user cannot execute it", path, info.Mode().Perm()),
			fmt.Sprintf("chmod o+rx '%s'", path))
	}
	return interpreted(path)
}

// interpreted checks that the interpreter of a script exists; execve(2) would only say "no such file".
func interpreted(path string) error {
	head, err := firstBytes(path, 4)
	if err != nil {
		return nil // executable but not readable is fine for a binary
	}
	if string(head) == "\x7fELF" {
		return nil
	}
	if !strings.HasPrefix(string(head), "#!") {
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s is neither a program nor a script", path), "Name the engine's program.")
	}
	program := shebang(path)
	if _, err := os.Stat(program); program == "" || err != nil {
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("script %s wants the interpreter %q, which is not there", path, program), "Install the interpreter, or install the engine anew.")
	}
	return nil
}

func shebang(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	line, _ := bufio.NewReaderSize(f, 512).ReadString('\n')
	fields := strings.Fields(strings.TrimPrefix(line, "#!"))
	if len(fields) == 0 {
		return ""
	}
	return fields[0]
}

// companions returns what an engine below a hidden tree needs to see beside its binary: the folder, a lib folder
// beside a bin folder, and the whole of a Python environment.
func companions(path string) []string {
	var need []string
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		real = path
	}
	for _, p := range slices.Compact([]string{path, real}) {
		if !hidden(p) {
			continue
		}
		dir := filepath.Dir(p)
		up := filepath.Dir(dir)
		if _, err := os.Stat(filepath.Join(up, "pyvenv.cfg")); err == nil {
			need = append(need, up)
			continue
		}
		need = append(need, dir)
		if lib := filepath.Join(up, "lib"); filepath.Base(dir) == "bin" && isDir(lib) {
			need = append(need, lib)
		}
	}
	slices.Sort(need)
	return slices.Compact(need)
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// hidden reports whether the engine's sandbox shows an empty folder in the path's place.
func hidden(path string) bool {
	return slices.ContainsFunc(render.HiddenTrees(), func(tree string) bool {
		return path == tree || strings.HasPrefix(path, strings.TrimSuffix(tree, "/")+"/")
	})
}
