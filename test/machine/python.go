package machine

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

//go:embed python-install.sh
var pythonScript string

// Python is a virtual environment with packages of PyPI, for machines of one recipe.
type Python struct {
	Recipe Recipe // with the packages python3 and python3-venv
	Guest  string // where it is in the machine
	// Requirements are lines of pip with an exact version each: nothing else is installed, not what
	// they depend on either.
	Requirements string
	// After is a script that ends the installation, run by the machine's sh as root; "": none.
	After string
}

// BuildPython returns the host's directory with the environment, and installs it when the cache
// does not have it yet. Give it to machines of that recipe as a Bind to p.Guest: the paths in it
// are those of the machine.
//
// Only wheels are taken, from where pip of this host finds packages. Progress goes to log; nil is
// silence.
func BuildPython(ctx context.Context, p Python, log func(string)) (string, error) {
	if err := needTools("unshare"); err != nil {
		return "", err
	}
	root, err := Build(ctx, p.Recipe, log)
	if err != nil {
		return "", err
	}
	name := strings.Trim(strings.ReplaceAll(p.Guest, "/", "-"), "-")
	key := contentKey(p.Recipe.key(), p.Guest, p.Requirements, p.After, pythonScript)
	return cached(ctx, "python", name+"-"+key, func(path string, lock *os.File) error {
		say(log, "installing %s from PyPI", p.Guest)
		if err := os.Mkdir(path, 0o755); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, toolPath("unshare"), "--mount", "--pid", "--fork", "--kill-child=KILL",
			"--mount-proc", "--", "sh", "-c", pythonScript, "install", root, path, p.Guest, p.After)
		cmd.Stdin = strings.NewReader(p.Requirements)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGKILL) }
		cmd.ExtraFiles = []*os.File{lock}
		cmd.WaitDelay = 30 * time.Second
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("install %s: %w\n%s", p.Guest, err, lastLines(out.String(), 15))
		}
		return nil
	})
}
