package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Machine is a running test machine. Its methods may be called from several goroutines.
type Machine struct {
	cfg     Config
	backend backend

	closing sync.Once
	closed  error
}

// backend is what differs between a container and a virtual machine.
type backend interface {
	// start runs a program in the machine as root. The process is killed when ctx ends.
	start(ctx context.Context, c Command) (process, error)
	// dial connects to an address inside of the machine.
	dial(ctx context.Context, network, address string) (net.Conn, error)
	// reboot asks PID 1 for a reboot and returns when PID 1 reports that the machine is up again.
	reboot(ctx context.Context) error
	// powerOff asks PID 1 to power off and returns when the host has no trace of it.
	powerOff(ctx context.Context) error
	// close ends the machine as a power cut does, and removes what belongs to it on the host.
	close(ctx context.Context) error
	// console is what the machine wrote to its console, for people.
	console() string
	// gone is closed when the machine has ended for any reason.
	gone() <-chan struct{}
}

// process is a program that runs in a machine.
type process interface {
	// wait returns the exit code, 128+n after signal n.
	wait() (int, error)
	// kill ends the process and all that it started.
	kill() error
}

// Boot builds what is needed, boots the machine and returns when its PID 1 has finished starting
// up. ctx bounds the boot, not the machine: that runs until PowerOff, Close, or the end of this
// process.
func Boot(ctx context.Context, cfg Config) (*Machine, error) {
	cfg, err := cfg.filled()
	if err != nil {
		return nil, err
	}
	root, err := Build(ctx, Recipe{Release: cfg.Release, Packages: cfg.Packages}, cfg.Log)
	if err != nil {
		return nil, err
	}
	boot := bootContainer
	if cfg.Backend == VM {
		boot = bootVM
	}
	b, err := boot(ctx, cfg, root)
	if err != nil {
		return nil, fmt.Errorf("boot a %s %s: %w", cfg.Release, cfg.Backend, err)
	}
	m := &Machine{cfg: cfg, backend: b}
	if err := m.settled(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("boot a %s %s: %w", cfg.Release, cfg.Backend, err), m.Close())
	}
	return m, nil
}

// settled waits until the boot has no job left, and returns an error when a unit of the bare
// machine failed: a test would otherwise blame it on what it tests.
func (m *Machine) settled(ctx context.Context) error {
	r := m.Run(ctx, "systemctl", "is-system-running", "--wait")
	if r.Err != nil {
		return r.Err
	}
	if state := strings.TrimSpace(r.Stdout); state != "running" {
		failed := m.Run(ctx, "systemctl", "--failed", "--no-legend", "--plain")
		return fmt.Errorf("systemd is %s: %s%s", state, failed.Stdout, r.Stderr)
	}
	return nil
}

// Release is the release that the machine runs.
func (m *Machine) Release() Release { return m.cfg.Release }

// Backend is what the machine is made of.
func (m *Machine) Backend() Kind { return m.cfg.Backend }

// Reboot reboots the machine in order and waits until it is up again; its file system keeps what
// was written.
func (m *Machine) Reboot(ctx context.Context) error {
	if err := m.backend.reboot(ctx); err != nil {
		return fmt.Errorf("reboot: %w", err)
	}
	return m.settled(ctx)
}

// PowerOff powers the machine off in order, as systemctl poweroff does, and removes it.
func (m *Machine) PowerOff(ctx context.Context) error {
	if err := m.backend.powerOff(ctx); err != nil {
		return errors.Join(fmt.Errorf("power off: %w", err), m.Close())
	}
	return m.Close()
}

// Close ends the machine at once, as a power cut does, and removes it. Only the first call does
// something.
func (m *Machine) Close() error {
	m.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		m.closed = m.backend.close(ctx)
	})
	return m.closed
}

// Gone is closed when the machine has ended, by itself or through Close.
func (m *Machine) Gone() <-chan struct{} { return m.backend.gone() }

// Console returns what the machine has written to its console. It is for people: newer systemd
// writes escape sequences to it.
func (m *Machine) Console() string { return m.backend.console() }

// Journal returns the last lines of the journal of all boots, the newest last. With lines 0 it is
// the whole journal.
func (m *Machine) Journal(ctx context.Context, lines int) (string, error) {
	args := []string{"journalctl", "--no-pager", "--output=short-precise", "--no-hostname"}
	if lines > 0 {
		args = append(args, fmt.Sprintf("--lines=%d", lines))
	}
	r := m.Run(ctx, args...)
	return r.Stdout, r.Check()
}
