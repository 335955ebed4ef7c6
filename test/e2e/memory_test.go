//go:build machine

package e2e

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestMainMemory: what a model needs of main memory is known before the engine is started, and
// reported where it is too much.
func TestMainMemory(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	t.Run("above_memory_max_nothing_is_started", func(t *testing.T) {
		h := h.in(t)
		h.pool("big", stub().quick().with(`ctx = 65536`, `slots = 4`).table("limits", `memory_max = "64M"`))
		h.reload()
		p := h.wait("big", failsWith("INSUFFICIENT_RAM"))
		if p.State != "waiting" || !strings.Contains(p.String(), "its memory_max is 64.0 MiB") ||
			!strings.Contains(p.Hint, "Raise memory_max") {
			t.Errorf("the pool is %s", p)
		}
		if state := h.must("systemctl", "show", "-p", "ActiveState", "--value",
			host.EngineUnit("big")); state != "inactive" {
			t.Errorf("its unit is %s", state)
		}
	})
	t.Run("with_enough_it_starts_by_itself", func(t *testing.T) {
		h := h.in(t)
		h.pool("big", stub().quick().with(`ctx = 128`, `slots = 4`).table("limits", `memory_max = "64M"`))
		h.reload()
		h.wait("big", isReady)
	})
	t.Run("more_than_the_host_has", func(t *testing.T) {
		h := h.in(t)
		h.pool("huge", stub().quick().with(`ctx = 16777216`, `slots = 64`))
		h.reload()
		p := h.wait("huge", failsWith("INSUFFICIENT_RAM"))
		if !strings.Contains(p.String(), "of main memory") || !strings.Contains(p.String(), "is available") {
			t.Errorf("the pool is %s", p)
		}
		h.wait("big", isReady)
	})
	t.Run("what_cannot_be_estimated_is_started", func(t *testing.T) {
		h := h.in(t)
		h.pool("unknown", command().quick().table("limits", `memory_max = "64M"`))
		h.reload()
		h.wait("unknown", isReady)
	})
}
