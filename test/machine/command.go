package machine

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"time"
)

// Command is a program to run in a machine, as root, with a clean environment.
type Command struct {
	Args   []string  // the program, found on the usual system PATH, and its arguments
	Env    []string  // "NAME=value", added to PATH, HOME and LANG
	Dir    string    // working directory, "/" when empty
	Stdin  io.Reader // nothing when nil
	Stdout io.Writer // dropped when nil
	Stderr io.Writer // dropped when nil
}

// environment is all that the program sees.
func (c Command) environment() []string {
	return append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8",
		"SYSTEMD_COLORS=0", "SYSTEMD_PAGER=", "DEBIAN_FRONTEND=noninteractive",
	}, c.Env...)
}

// codeKilled is the exit code of a program that SIGKILL ended.
const codeKilled = 128 + 9

// Result is how a command ended.
type Result struct {
	Args     []string
	ExitCode int // 128+n after signal n; -1 when Err is set
	Stdout   string
	Stderr   string
	Elapsed  time.Duration
	Err      error // the command could not be run, or not to its end
}

// Check returns an error with the command, its exit code and its output, unless it ran and exited
// with 0.
func (r Result) Check() error {
	switch {
	case r.Err != nil:
		return fmt.Errorf("%s: %w\n%s", strings.Join(r.Args, " "), r.Err, strings.TrimSpace(r.Stdout+r.Stderr))
	case r.ExitCode != 0:
		return fmt.Errorf("%s: exit code %d\n%s", strings.Join(r.Args, " "), r.ExitCode,
			strings.TrimSpace(r.Stdout+r.Stderr))
	}
	return nil
}

// Run runs a program in the machine, waits for it and returns its exit code and output. The program
// is killed, with all that it started, when ctx ends.
func (m *Machine) Run(ctx context.Context, args ...string) Result {
	return m.RunCommand(ctx, Command{Args: args})
}

// Shell runs a script with bash -eu and pipefail.
func (m *Machine) Shell(ctx context.Context, script string) Result {
	return m.Run(ctx, "bash", "-eu", "-o", "pipefail", "-c", script)
}

// RunCommand is Run for a command with an environment, an input or a directory. Output that the
// command sends to writers of its own is not in the result.
func (m *Machine) RunCommand(ctx context.Context, c Command) Result {
	var stdout, stderr bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &stdout
	}
	if c.Stderr == nil {
		c.Stderr = &stderr
	}
	began := time.Now()
	r := Result{Args: c.Args, ExitCode: -1}
	p, err := m.Start(ctx, c)
	if err == nil {
		r.ExitCode, err = p.Wait()
	}
	if err == nil && r.ExitCode == codeKilled && ctx.Err() != nil {
		r.ExitCode, err = -1, fmt.Errorf("killed: %w", ctx.Err())
	}
	r.Err, r.Stdout, r.Stderr, r.Elapsed = err, stdout.String(), stderr.String(), time.Since(began)
	return r
}

// Process is a program that runs in a machine.
type Process struct {
	name string
	run  process
}

// Start starts a program in the background; its output streams into the command's writers. It is
// killed, with all that it started, when ctx ends. The caller must call Wait.
func (m *Machine) Start(ctx context.Context, c Command) (*Process, error) {
	if len(c.Args) == 0 {
		return nil, fmt.Errorf("run in the machine: no program named")
	}
	p, err := m.backend.start(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("start %s in the machine: %w", c.Args[0], err)
	}
	return &Process{name: c.Args[0], run: p}, nil
}

// Wait waits for the end of the program and of its output, and returns its exit code, 128+n after
// signal n.
func (p *Process) Wait() (int, error) {
	code, err := p.run.wait()
	if err != nil {
		return -1, fmt.Errorf("%s in the machine: %w", p.name, err)
	}
	return code, nil
}

// Kill ends the program with SIGKILL, and all that it started. Wait still has to be called.
func (p *Process) Kill() error { return p.run.kill() }
