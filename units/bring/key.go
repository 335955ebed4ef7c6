package bring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/secret"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// lookAtKey checks the file of the pool's key, and names it.
func lookAtKey(p pool.Pool) (names []string, fault *Fault) {
	path := p.APIKeyFile
	if path == "" {
		return nil, nil
	}
	fail := func(hint, format string, args ...any) *Fault {
		return &Fault{Key: "api_key_file", Failure: registry.Fail(registry.CodeProvisionFailed,
			"api_key_file "+path+" "+fmt.Sprintf(format, args...), hint)}
	}
	_, err := secret.Key(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fail(writeKey(path), "does not exist")
	case errors.Is(err, fs.ErrPermission):
		fault := fail("The manager is root without capabilities, which must own the file and be let into the folders "+
			"above: chown root "+shell.Quote(path)+"; chmod o+x "+shell.Quote(ClosedAbove(path)), "cannot be read")
		fault.Closed = true
		return nil, fault
	case err != nil:
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = fmt.Errorf("cannot be read: %w", cause.Err)
		}
		return nil, fail("It is one line without spaces. "+writeKey(path), "%v", err)
	}
	if a, ok := engine.For(p.Engine); ok && a.APIKey().File && secret.Padded(path) {
		return nil, fail("Remove them: sed -i 's/^[[:space:]]*//; s/[[:space:]]*$//' "+shell.Quote(path),
			"has blanks or the line ends of Windows around a key, which the engine would take for a part of it")
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fail(writeKey(path), "is gone")
	}
	if perm := info.Mode().Perm(); perm&0o007 != 0 {
		return nil, fail("PID 1 hands the key to the engine: chmod o-rwx "+shell.Quote(path),
			"has mode %04o: every user of the host can read the key", perm)
	}
	return []string{Identity(path, info)}, nil
}

// writeKey is how a key is made.
func writeKey(path string) string {
	return "Write the key there, or make one: (umask 077; openssl rand -hex 32 >" + shell.Quote(path) + ")"
}
