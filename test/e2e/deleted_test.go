//go:build machine

package e2e

import (
	"fmt"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestDeletedEngineDirectories: with a quota, PID 1 of 262 cannot report the unit of an engine
// whose state directory was deleted. The engine goes on, over a SIGKILL of the manager too, its
// crash is seen and it starts again, and its pool can be drained, resumed and removed.
func TestDeletedEngineDirectories(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("a", stub().quick().table("limits", `state_max = "8M"`))
			h.reload()
			p := h.wait("a", isReady)
			deleted := func() {
				h.shell("rm -rf /var/lib/private/pool-engine/a.r0 /var/cache/private/pool-engine/a.r0")
			}
			deleted()
			h.killManager()
			if now := h.wait("a", isReady); now.Replicas[0].PID != p.Replicas[0].PID {
				t.Errorf("another process: %d, it was %d", now.Replicas[0].PID, p.Replicas[0].PID)
			}
			h.must("kill", "-KILL", fmt.Sprint(p.Replicas[0].PID))
			h.wait("a", isReady, restarted(1))
			h.must("test", "-d", "/var/lib/private/pool-engine/a.r0")
			deleted()
			h.must("poolctl", "drain", "a", "--wait")
			h.must("poolctl", "resume", "a", "--wait")
			h.wait("a", isReady)
			h.unitsDeleted()
			deleted()
			h.removePool("a")
			h.reload()
			h.waitGone("a")
		})
	}
}

// unitsDeleted: a careless root deletes the files of transient units and reloads PID 1. The engines
// serve on and are shown with what they lack; the crash of one is followed by a whole unit, and so
// is a drain.
func (s *site) unitsDeleted() {
	s.t.Helper()
	s.pool("b", stub().table("sandbox", `network = "none"`).quick())
	s.pool("c", stub().table("sandbox", `network = "loopback"`).quick())
	s.reload()
	s.wait("b", isReady)
	s.wait("c", isReady)
	before := s.engines()
	s.shell("rm -rf /run/systemd/transient/pool-*; systemctl daemon-reload")
	for _, id := range []string{"a", "b", "c"} {
		s.wait(id, isReady, says("UNIT_FILE_MISSING"))
	}
	s.untouched(before)
	s.must("kill", "-KILL", fmt.Sprint(s.engine("b").PID))
	s.must("poolctl", "drain", "c", "--wait")
	s.must("poolctl", "resume", "c", "--wait")
	for _, id := range []string{"b", "c"} {
		s.wait(id, isReady, condition{"without an error", func(p host.Pool) bool { return p.LastError == "" }})
		if state := s.must("systemctl", "show", "-P", "LoadState", host.EngineUnit(id)); state != "loaded" {
			s.t.Errorf("the unit of %s is %s", id, state)
		}
	}
	for _, id := range []string{"b", "c"} {
		s.removePool(id)
	}
	s.reload()
	s.waitGone("b")
	s.waitGone("c")
}
