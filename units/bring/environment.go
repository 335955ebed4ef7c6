package bring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/secret"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Environment reads the pool's files of variables: of two that set the same one, the later counts,
// as for PID 1. There is a fault for each file that PID 1 would not read, or not as a whole.
func Environment(p pool.Pool) (found map[string]pool.FileVariable, faults []Fault) {
	for i, path := range p.EnvFiles {
		variables, err := secret.Environment(path)
		if err != nil {
			faults = append(faults, *environmentFault(i, path, err))
			continue
		}
		for _, v := range variables {
			if found == nil {
				found = make(map[string]pool.FileVariable)
			}
			found[v.Name] = pool.FileVariable{Value: pool.Hidden(v.Value), Item: i, Line: v.Line}
		}
	}
	return found, faults
}

// environmentFault explains why a file of variables cannot be used.
func environmentFault(item int, path string, err error) *Fault {
	fail := func(hint, format string, args ...any) *Fault {
		return &Fault{Key: fmt.Sprintf("env_file[%d]", item), Failure: registry.Fail(registry.CodeProvisionFailed,
			"env_file "+path+" "+fmt.Sprintf(format, args...), hint)}
	}
	var line *secret.Fault
	switch {
	case errors.As(err, &line) && line.Line > 0:
		return fail(line.Hint, "is refused: %v", line)
	case errors.As(err, &line):
		return fail(line.Hint, "%v", line)
	case errors.Is(err, fs.ErrNotExist):
		return fail("Write it; the pool starts by itself once it is there. This makes an empty one: "+
			"install -m 0600 /dev/null "+shell.Quote(path),
			"does not exist")
	case errors.Is(err, fs.ErrPermission):
		fault := fail("The manager is root without capabilities, which must own the file and be let into the folders "+
			"above: chown root "+shell.Quote(path)+"; chmod o+x "+shell.Quote(ClosedAbove(path)), "cannot be read")
		fault.Closed = true
		return fault
	}
	var cause *fs.PathError
	if errors.As(err, &cause) {
		err = fmt.Errorf("cannot be read: %w", cause.Err)
	}
	return fail("Name a file of lines NAME=value: ls -ld "+shell.Quote(path), "%v", err)
}

// environmentNames names the versions of the pool's files of variables, which were readable.
func environmentNames(p pool.Pool) (names []string) {
	for _, path := range p.EnvFiles {
		if info, err := os.Stat(path); err == nil {
			names = append(names, Identity(path, info))
		}
	}
	return names
}
