package binaries

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Named returns the absolute path of the program of an engine; name is empty for a kind of engine
// without a default.
func Named(name, kind string) (string, *registry.Failure) {
	if name == "" {
		return "", registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("engine %s has no default binary", kind),
			"Name its program as [provisioning] binary: find /usr/bin /usr/local /opt -type f -perm -1 -name "+
				shell.Quote(kind+"*"))
	}
	if path := Find(name); path != "" {
		return path, nil
	}
	return "", registry.Fail(registry.CodeProvisionFailed,
		fmt.Sprintf("no binary %s in %s", name, strings.Join(Folders(), ", ")),
		"Install the engine, or name its path as [provisioning] binary: "+SearchFor(name))
}

// Executable checks what execve(2) by the engine's dynamic user would.
func Executable(path string) *registry.Failure {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s does not exist", path),
			"Install the engine, or correct [provisioning] binary: "+SearchFor(path))
	case errors.Is(err, fs.ErrPermission):
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s: the manager cannot enter %s", path, bring.ClosedAbove(path)),
			"The manager is root without capabilities. Install it under /usr/local or /opt, or let others enter the "+
				"folder: chmod o+x "+shell.Quote(bring.ClosedAbove(path)))
	case err != nil:
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("binary %s: %v", path, bring.Cause(err)),
			"Correct [provisioning] binary: namei -l "+shell.Quote(path))
	case !info.Mode().IsRegular():
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s is not a regular file (%s)", path, info.Mode().Type()),
			"Name the program itself as [provisioning] binary: ls -ld "+shell.Quote(path))
	case info.Mode().Perm()&0o001 == 0:
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s has mode %04o: the engine's user cannot execute it", path, info.Mode().Perm()),
			"chmod o+rx "+shell.Quote(path))
	}
	return nil
}

// Recognised checks that the kernel can tell what a file is: a program, or a script that the
// engine's user can read.
func Recognised(path string) *registry.Failure {
	head, err := start(path)
	switch {
	case err != nil: // executable but not readable is fine for a program
		return nil
	case strings.HasPrefix(head, elf.ELFMAG):
		return nil
	case !strings.HasPrefix(head, "#!"):
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("binary %s is neither a program nor a script", path),
			"Name the engine's program as [provisioning] binary: file "+shell.Quote(path))
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o004 == 0 {
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("script %s has mode %04o: the engine's user cannot read it", path, info.Mode().Perm()),
			"chmod o+rx "+shell.Quote(path))
	}
	return firstLine(path, head)
}

// firstLine checks that the kernel finds the interpreter of a script.
func firstLine(path, head string) *registry.Failure {
	line, _, _ := strings.Cut(strings.TrimPrefix(head, "#!"), "\n")
	interpreter, _, _ := strings.Cut(strings.TrimLeft(line, " \t"), " ")
	switch {
	case strings.HasSuffix(line, "\r"):
		return registry.Fail(registry.CodeProvisionFailed, fmt.Sprintf("script %s has the line ends of Windows, and "+
			"the kernel takes the first for a part of the name or argument of its interpreter", path),
			`Remove them: sed -i 's/\r$//' `+shell.Quote(path))
	case !strings.HasPrefix(interpreter, "/"):
		return registry.Fail(registry.CodeProvisionFailed,
			fmt.Sprintf("script %s names its interpreter %q without a path", path, interpreter),
			"Begin it with #! and the interpreter's path, or #!/usr/bin/env and its name: head -n 1 "+shell.Quote(path))
	}
	return nil
}

// headLen is how much of a script the kernel reads for its first line: BINPRM_BUF_SIZE of
// linux/binfmts.h.
const headLen = 256

// start returns the first bytes of a file, which decide how the kernel executes it.
func start(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	head, err := io.ReadAll(io.LimitReader(f, headLen))
	return string(head), err
}

// SearchFor is the command that looks for a file where programs are installed.
func SearchFor(name string) string {
	return "find /usr /opt /srv -name " + shell.Quote(path.Base(name))
}
