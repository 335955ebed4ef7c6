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

//go:embed customize.sh
var customizeScript string

// Build returns the directory of the recipe's root file system and builds it when the cache does
// not have it yet: half a minute on a fast mirror. The directory is shared by all machines, and
// read-only by agreement.
//
// Debian's default mirror is used, or the one that the environment variable MIRROR names. Progress,
// one line per step, goes to log; nil is silence.
func Build(ctx context.Context, r Recipe, log func(string)) (string, error) {
	if err := needTools(); err != nil {
		return "", err
	}
	if _, err := ParseRelease(string(r.Release)); err != nil {
		return "", err
	}
	return cached(ctx, "roots", string(r.Release)+"-"+r.key(), func(path string, lock *os.File) error {
		say(log, "building the root file system of %s with %s", r.Release, strings.Join(r.packages(), " "))
		hook, err := os.CreateTemp("", "machine-customize-*.sh")
		if err != nil {
			return err
		}
		defer os.Remove(hook.Name())
		if _, err := hook.WriteString(customizeScript); err != nil {
			return err
		}
		if err := hook.Close(); err != nil {
			return err
		}
		// That clean-up step would empty /etc/machine-id again.
		args := []string{"--variant=minbase", "--mode=root", "--skip=cleanup/reproducible", "--include=" + strings.Join(r.packages(), ","),
			fmt.Sprintf(`--customize-hook=sh %s "$1"`, hook.Name())}
		return runMmdebstrap(ctx, r.Release, args, path, lock)
	})
}

// runMmdebstrap runs mmdebstrap into target; its last lines are in the error.
func runMmdebstrap(ctx context.Context, release Release, args []string, target string, lock *os.File) error {
	if err := needTools("mmdebstrap"); err != nil {
		return err
	}
	for _, option := range release.aptOptions() {
		args = append(args, "--aptopt="+option)
	}
	args = append(args, string(release), target)
	if mirror := os.Getenv("MIRROR"); mirror != "" {
		args = append(args, mirror)
	}
	cmd := exec.CommandContext(ctx, toolPath("mmdebstrap"), args...)
	// SIGTERM lets mmdebstrap unmount what it mounted in the chroot.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.ExtraFiles = []*os.File{lock}
	cmd.WaitDelay = 30 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("mmdebstrap %s: %w\n%s", release, err, lastLines(out.String(), 15))
	}
	return nil
}

// say prints a line of progress to log, which may be nil.
func say(log func(string), format string, args ...any) {
	if log != nil {
		log(fmt.Sprintf(format, args...))
	}
}

// lastLines returns the last n lines of text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
