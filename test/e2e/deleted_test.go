//go:build machine

package e2e

import (
	"fmt"
	"testing"

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
			deleted()
			h.removePool("a")
			h.reload()
			h.waitGone("a")
		})
	}
}
