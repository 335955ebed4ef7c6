//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestLookingWithoutTheManager: engines outlive the manager, and so does looking at them, where it
// hangs too; what ended an engine is known after restarts of the manager.
func TestLookingWithoutTheManager(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Bookworm)
	h.pool("a", stub().quick())
	h.reload()
	p := h.wait("a", isReady)
	h.must("kill", "-KILL", fmt.Sprint(p.Replicas[0].PID))
	p = h.wait("a", restarted(1))
	h.must("systemctl", "restart", host.ManagerUnit)
	h.wait("a", isReady)
	for _, question := range []string{"--why-stopped", "--why-restarted"} {
		out := h.must("poolctl", "explain", "a", question)
		for _, part := range []string{"Why:   ENGINE_CRASHED", "SIGKILL", "PID 1", "ready -> backoff", "serves again since",
			"The manager was restarted since."} {
			if !strings.Contains(out, part) {
				t.Errorf("explain a %s has no %q:\n%s", question, part, out)
			}
		}
	}
	// One that hangs, as by SIGSTOP, is as good as none, after the time of a read.
	h.must("systemctl", "kill", "--signal=STOP", host.ManagerUnit)
	h.withoutManager("list", "active (running)", "did not answer within 3s")
	h.withoutManager("explain a", host.EngineUnit("a")+", active (running)", "did not answer within 3s")
	h.withoutManager("events a --timeout 1s", "did not answer within 1s", "poolctl logs a")
	if out := h.shell("time -p timeout 2 poolctl __complete status '' 2>&1"); !strings.Contains(out, "a\tno answer\n") {
		t.Errorf("completion while the manager hangs:\n%s", out)
	}
	h.must("systemctl", "kill", "--signal=CONT", host.ManagerUnit)
	h.wait("a", isReady)

	h.must("systemctl", "stop", "pool-managerd.socket", "pool-managerd-admin.socket", host.ManagerUnit)
	h.withoutManager("list", "active (running)", fmt.Sprint(p.Replicas[0].PID), "yes",
		strings.TrimPrefix(p.Replicas[0].Endpoint, "http://"), "pool-managerd does not answer")
	h.withoutManager("status a", host.EngineUnit("a")+", active (running)", "State:", "not known",
		p.Replicas[0].Endpoint)
	h.must("systemctl", "start", "pool-managerd.socket", "pool-managerd-admin.socket", host.ManagerUnit)
	h.wait("a", isReady)
}

// withoutManager holds what poolctl prints while the manager does not answer, with exit status 4.
func (s *site) withoutManager(line string, parts ...string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		out, err := s.Shell(ctx, "poolctl "+line+" 2>&1 || [ $? = 4 ]")
		if err != nil {
			return err
		}
		for _, part := range parts {
			if !strings.Contains(out, part) {
				return fmt.Errorf("poolctl %s has no %q:\n%s", line, part, out)
			}
		}
		return nil
	})
}
