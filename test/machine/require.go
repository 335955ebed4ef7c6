package machine

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Requirement is something that a test needs of its machine, and that a machine may lack without
// any sign of it.
type Requirement struct {
	Name  string
	check func(ctx context.Context, m *Machine) error
}

// Controllers requires that PID 1 of the machine has these cgroup v2 controllers, by the kernel's
// names: cpu, cpuset, io, memory, pids. Without its controller, a limit such as MemoryMax= is
// ignored.
func Controllers(names ...string) Requirement {
	return Requirement{Name: "cgroup controllers " + strings.Join(names, ", "),
		check: func(ctx context.Context, m *Machine) error {
			text, err := m.ReadFile(ctx, "/sys/fs/cgroup/cgroup.controllers")
			if err != nil {
				return err
			}
			have := strings.Fields(string(text))
			for _, name := range names {
				if !slices.Contains(have, name) {
					return fmt.Errorf("it has the controllers %v, not %s", have, name)
				}
			}
			return nil
		}}
}

// BPF requires that PID 1 of the machine can attach BPF programs to a cgroup. Without,
// IPAddressDeny= is ignored.
func BPF() Requirement {
	return Requirement{Name: "BPF in cgroups", check: func(ctx context.Context, m *Machine) error {
		// A datagram to the discard port needs no listener: sending works, unless the filter
		// forbids it (EPERM).
		send := []string{"bash", "-c", "echo x >/dev/udp/127.0.0.1/9"}
		open := m.Run(ctx, append([]string{"systemd-run", "--quiet", "--collect", "--wait", "--pipe"}, send...)...)
		if err := open.Check(); err != nil {
			return fmt.Errorf("the probe does not run: %w", err)
		}
		denied := m.Run(ctx, append([]string{"systemd-run", "--quiet", "--collect", "--wait", "--pipe",
			"--property=IPAddressDeny=any"}, send...)...)
		if denied.Err != nil {
			return denied.Err
		}
		if denied.ExitCode == 0 {
			return fmt.Errorf("a unit with IPAddressDeny=any can send")
		}
		return nil
	}}
}

// Check returns an error that names the first requirement which the machine does not meet.
func (m *Machine) Check(ctx context.Context, needs ...Requirement) error {
	for _, need := range needs {
		if err := need.check(ctx, m); err != nil {
			return fmt.Errorf("this %s has no %s: %w; boot a machine with the backend %q", m.cfg.Backend, need.Name,
				err, VM)
		}
	}
	return nil
}
