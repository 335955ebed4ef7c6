package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine/wire"
)

// cgroupRoot is where the groups of the programs are, beside those of systemd.
const cgroupRoot = "/sys/fs/cgroup/test-commands"

// pipeGrace is how long output is waited for after a program's end, when a child of it keeps the
// pipes open.
const pipeGrace = 2 * time.Second

// program is a running program, in a cgroup of its own by which it is killed.
type program struct {
	*feed
	cgroup string
}

// openProgram starts the program and a goroutine that waits for its end.
func (a *agent) openProgram(id uint32, r wire.Request) {
	p := &program{cgroup: filepath.Join(cgroupRoot, fmt.Sprint(id))}
	cmd, err := p.start(a, id, r)
	if err != nil {
		a.ended(id, wire.Exit{Code: -1, Error: err.Error()})
		return
	}
	a.add(id, p)
	go func() {
		exit := waitFor(cmd)
		p.inputEnd()
		// A program may leave a child in the background, then its group stays.
		_ = os.Remove(p.cgroup)
		a.ended(id, exit)
	}()
}

func (p *program) start(a *agent, id uint32, r wire.Request) (*exec.Cmd, error) {
	if err := os.MkdirAll(p.cgroup, 0o755); err != nil {
		return nil, err
	}
	group, err := os.Open(p.cgroup)
	if err != nil {
		return nil, err
	}
	defer group.Close()
	// env(1) looks the program up in the PATH of the request, not in this process's.
	cmd := exec.Command("/usr/bin/env", append([]string{"--ignore-environment", "--chdir=" + r.Dir},
		append(r.Env, r.Args...)...)...)
	cmd.Stdout, cmd.Stderr = output{a.out, wire.Output, id}, output{a.out, wire.Error, id}
	cmd.WaitDelay = pipeGrace
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(group.Fd()), Setsid: true}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	// The agent itself is spared by the OOM killer, what it runs is not.
	_ = os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", cmd.Process.Pid), []byte("0"), 0)
	p.feed = newFeed(a.out, id, stdin)
	return cmd, nil
}

// waitFor returns how the program ended, with the code that a shell would show.
func waitFor(cmd *exec.Cmd) wire.Exit {
	err := cmd.Wait()
	var exit *exec.ExitError
	switch {
	case err == nil || errors.Is(err, exec.ErrWaitDelay):
		return wire.Exit{Code: cmd.ProcessState.ExitCode()}
	case errors.As(err, &exit):
		status := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return wire.Exit{Code: 128 + int(status.Signal())}
		}
		return wire.Exit{Code: status.ExitStatus()}
	}
	return wire.Exit{Code: -1, Error: err.Error()}
}

func (p *program) kill() {
	_ = os.WriteFile(filepath.Join(p.cgroup, "cgroup.kill"), []byte("1"), 0)
}
