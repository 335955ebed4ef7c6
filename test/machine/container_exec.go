package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// pipeGrace is how long Wait waits for output after the program's end, when a child of it keeps the
// pipes open.
const pipeGrace = 2 * time.Second

// withUmask runs its arguments with a system's usual file mode mask, not that of the person
// who runs the tests is.
const withUmask = `umask 022; exec "$@"`

// containerProcess is a program that nsenter runs in a container.
type containerProcess struct {
	cmd    *exec.Cmd
	cgroup string // holds the program and all that it starts
}

// start runs the program with nsenter in all namespaces of the container, in a cgroup of its own
// beside systemd's, by which it is killed: a signal to nsenter would not reach its child.
func (c *container) start(ctx context.Context, command Command) (process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	leader, err := c.leader()
	if err != nil {
		return nil, err
	}
	cgroup, fd, err := c.commandCgroup(leader)
	if err != nil {
		return nil, err
	}
	defer fd.Close()
	dir := command.Dir
	if dir == "" {
		dir = "/"
	}
	args := []string{"--target=" + strconv.Itoa(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
		"/usr/bin/env", "--ignore-environment", "--chdir=" + dir}
	args = append(append(args, command.environment()...), "sh", "-c", withUmask, "sh")
	args = append(args, command.Args...)
	p := &containerProcess{cmd: exec.CommandContext(ctx, "nsenter", args...), cgroup: cgroup}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = command.Stdin, command.Stdout, command.Stderr
	p.cmd.Cancel, p.cmd.WaitDelay = p.kill, pipeGrace
	p.cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(fd.Fd()), Setsid: true}
	if err := p.cmd.Start(); err != nil {
		return nil, errors.Join(err, os.Remove(cgroup))
	}
	return p, nil
}

// commandCgroup makes the group of one command, in the part of the hierarchy that the container
// sees.
func (c *container) commandCgroup(leader int) (string, *os.File, error) {
	mount, err := cgroup2Mount()
	if err != nil {
		return "", nil, err
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", leader))
	if err != nil {
		return "", nil, err
	}
	_, rest, found := strings.Cut("\n"+string(text), "\n0::")
	own, _, _ := strings.Cut(rest, "\n")
	if !found || filepath.Base(own) != "init.scope" {
		return "", nil, fmt.Errorf("PID 1 of the machine is in the cgroup %q, not in init.scope", own)
	}
	c.mu.Lock()
	c.counter++
	number := c.counter
	c.mu.Unlock()
	path := filepath.Join(mount, filepath.Dir(own), "test-commands", strconv.Itoa(number))
	if err := os.MkdirAll(path, 0o755); err != nil {
		return "", nil, err
	}
	fd, err := os.Open(path)
	return path, fd, err
}

func (p *containerProcess) wait() (int, error) {
	err := p.cmd.Wait()
	// A program may leave a child in the background: then the group is still in use, and goes with
	// the machine.
	_ = os.Remove(p.cgroup)
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return p.cmd.ProcessState.ExitCode(), nil
	case errors.As(err, &exit):
		return exitCode(exit.Sys().(syscall.WaitStatus)), nil
	}
	return -1, err
}

// exitCode is the code that a shell would show.
func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

func (p *containerProcess) kill() error {
	err := os.WriteFile(filepath.Join(p.cgroup, "cgroup.kill"), []byte("1"), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return os.ErrProcessDone
	}
	return err
}
