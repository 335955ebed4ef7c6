//go:build machine

package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

const systemdPackage = "github.com/pool-managerd/pool-managerd/systemd"

// TestSystemd runs the client of PID 1 under every systemd that is supported: jobs and their
// results, updates in order, a bus that is killed or hangs, a PID 1 that executes itself again or
// reloads, forged signals, and a quiet minute without a single call.
func TestSystemd(t *testing.T) {
	binary := machine.BuildTest(t, systemdPackage, "-tags", "machine")
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := machine.Start(t, machine.Config{Release: release})
			m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run=^TestMachine", "-test.timeout=10m")
		})
	}
}

// TestSystemdKernelLog follows the kernel's own log, which only a machine with a kernel of its own
// has.
func TestSystemdKernelLog(t *testing.T) {
	binary := machine.BuildTest(t, systemdPackage, "-tags", "machine")
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			m := machine.Start(t, machine.Config{Release: release, Backend: machine.VM})
			m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run=^TestKernelLines$", "-test.timeout=5m")
		})
	}
}

// TestSystemdHungPID1 stops PID 1 of a machine, which only a process outside of it can do, while
// the client inside makes calls. The client asks for it by files, see TestHungPID1 there.
func TestSystemdHungPID1(t *testing.T) {
	t.Parallel()
	m := machine.Start(t, machine.Config{Backend: machine.Container})
	pid1 := hostPID1(t, m)
	binary := machine.BuildTest(t, systemdPackage, "-tags", "machine")
	stopper := make(chan error, 1)
	go func() {
		defer func() { _ = syscall.Kill(pid1, syscall.SIGCONT) }()
		stopper <- stopOnRequest(t, m, pid1)
	}()
	m.RunTestBinary(t.Context(), t, binary, "-machine", "-test.run=^TestHungPID1$", "-test.timeout=5m")
	if err := <-stopper; err != nil {
		t.Error(err)
	}
}

func stopOnRequest(t *testing.T, m *machine.Machine, pid1 int) error {
	await := func(path string) {
		for {
			if _, err := m.ReadFile(t.Context(), path); err == nil || t.Context().Err() != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	await("/run/pmd-stop-pid1")
	if err := syscall.Kill(pid1, syscall.SIGSTOP); err != nil {
		return err
	}
	if err := m.WriteFile(t.Context(), "/run/pmd-pid1-is-stopped", nil, 0o600); err != nil {
		return err
	}
	await("/run/pmd-continue-pid1")
	return syscall.Kill(pid1, syscall.SIGCONT)
}

// hostPID1 finds a container's PID 1 among the host's processes: it is in the container's PID
// namespace, and there it is 1.
func hostPID1(t *testing.T, m *machine.Machine) int {
	t.Helper()
	namespace := m.MustRun(t, "readlink", "/proc/self/ns/pid")
	entries, err := filepath.Glob("/proc/[0-9]*/ns/pid")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		dir := filepath.Dir(filepath.Dir(entry))
		if link, err := os.Readlink(entry); err != nil || link != namespace {
			continue
		}
		status, err := os.ReadFile(filepath.Join(dir, "status"))
		if err != nil {
			continue
		}
		_, ids, _ := strings.Cut(string(status), "\nNSpid:")
		ids, _, _ = strings.Cut(ids, "\n")
		if fields := strings.Fields(ids); len(fields) > 1 && fields[len(fields)-1] == "1" {
			pid, err := strconv.Atoi(filepath.Base(dir))
			if err != nil {
				t.Fatal(err)
			}
			return pid
		}
	}
	t.Fatalf("no process is PID 1 of %s", namespace)
	return 0
}
