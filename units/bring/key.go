package bring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/secret"
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
		return nil, fail("Write the key there as one line, owned by root with mode 0600.", "does not exist")
	case errors.Is(err, fs.ErrPermission):
		fault := fail(fmt.Sprintf("The manager is root without capabilities: chown root '%s' and let it enter the "+
			"folders above.", path), "cannot be read")
		fault.Closed = true
		return nil, fault
	case err != nil:
		var cause *fs.PathError
		if errors.As(err, &cause) {
			err = fmt.Errorf("cannot be read: %w", cause.Err)
		}
		return nil, fail("Write the key as one line without spaces, as openssl rand -hex 32 prints it.", "%v", err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fail("Write the key there again.", "is gone")
	}
	if perm := info.Mode().Perm(); perm&0o007 != 0 {
		return nil, fail(fmt.Sprintf("chmod o-rwx '%s'; PID 1 hands the key to the engine.", path),
			"has mode %04o: every user of the host can read the key", perm)
	}
	return []string{Identity(path, info)}, nil
}
