//go:build machine

package e2e

import (
	"context"
	"fmt"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/orchestrator"
)

// TestHandoffDirectoryThatCannotBeWritten: while no hand-off file can be written, a changed pool
// file still reloads the engine that serves: the new engine starts beside it, and no request fails.
// The files follow as soon as they can.
func TestHandoffDirectoryThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	file := func(n int) poolFile { return stub("--load", fmt.Sprintf("%dms", 500+n)).with("slots = 4").quick() }
	reload := func(t *testing.T, n int) {
		t.Helper()
		h := h.in(t)
		before := h.wait("a", isReady).Replicas[0]
		ctx, stop := context.WithCancel(t.Context())
		failed := make(chan int, 1)
		go func() { failed <- h.useWhile(ctx, "a") }()
		h.pool("a", file(n))
		h.reload()
		after := h.wait("a", isReady, condition{"another process, alone", func(p host.Pool) bool {
			return p.Reload == nil && len(p.Replicas) == 1 && p.Replicas[0].PID != before.PID
		}}).Replicas[0]
		stop()
		if n := <-failed; n != 0 {
			t.Errorf("%d requests failed", n)
		}
		if after.Unit == before.Unit {
			t.Errorf("%s was stopped and started again", before.Unit)
		}
	}
	names := func(is host.Replica) func(orchestrator.Handoff) bool {
		return func(f orchestrator.Handoff) bool { return f.PID != nil && *f.PID == is.PID && *f.Unit == is.Unit }
	}

	h.shell("rm -rf " + host.HandoffDir + " && touch " + host.HandoffDir)
	h.logs(host.ManagerUnit, "could not update the hand-off file", func() {
		h.pool("a", file(0))
		h.reload()
	})
	t.Run("a_file_is_in_its_place", func(t *testing.T) {
		reload(t, 1)
		h := h.in(t)
		h.must("rm", host.HandoffDir)
		h.handoff("a", "what serves", names(h.get("a").Replicas[0]))
	})
	t.Run("the_manager_starts_with_it", func(t *testing.T) {
		h := h.in(t)
		h.shell("rm -rf " + host.HandoffDir + " && touch " + host.HandoffDir)
		serving := h.engines()
		h.must("systemctl", "restart", host.ManagerUnit)
		h.wait("a", isReady)
		h.untouched(serving)
		reload(t, 3)
		h.must("rm", host.HandoffDir)
		h.handoff("a", "what serves", names(h.get("a").Replicas[0]))
	})
}
