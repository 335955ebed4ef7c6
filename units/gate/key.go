package gate

import (
	"errors"
	"fmt"
	"io/fs"
	"log"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/secret"
)

// Key reads the engine's key, which is a credential of its unit (systemd.exec(5), LoadCredential=).
// The empty /run of the unit holds for the gate, too, and PID 1 shows the credentials in it to
// every command from 257 on; 252 shows them to the main process alone (seen), through whose root
// directory the gate, which is root, finds them. The engine can make no file there. mainPID 0: this
// is the main process.
func Key(mainPID int) (string, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return "", errors.New("CREDENTIALS_DIRECTORY is not set: the unit has no credentials")
	}
	path := filepath.Join(dir, secret.Credential)
	key, err := secret.Key(path)
	if mainPID > 0 && errors.Is(err, fs.ErrNotExist) {
		key, err = secret.Key(filepath.Join("/proc", strconv.Itoa(mainPID), "root", path))
	}
	if err != nil {
		return "", fmt.Errorf("the engine's key: %w", err)
	}
	return key, nil
}

// Exec executes an engine with its key in a variable, if there is one, and with assignments that
// replace what it inherits. It returns only if that fails, with the exit status that PID 1 has for
// it.
func Exec(variable string, set, argv []string, l *log.Logger) int {
	env := os.Environ()
	if variable != "" {
		key, err := Key(0)
		if err != nil {
			l.Println(err)
			return exit.Failed
		}
		set = append(set, variable+"="+key)
	}
	for _, assignment := range set {
		name, _, _ := strings.Cut(assignment, "=")
		env = slices.DeleteFunc(env, func(e string) bool { return strings.HasPrefix(e, name+"=") })
	}
	env = append(env, set...)
	// PID 1 starts a service with SIGPIPE ignored (IgnoreSIGPIPE=); the Go runtime has caught it.
	signal.Ignore(syscall.SIGPIPE)
	l.Printf("could not execute %s: %v", argv[0], syscall.Exec(argv[0], argv, env))
	return exit.NotExecuted
}
