package supervise

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/keep"
)

// TestRestartsAreCarriedOver: a reload that changes sides (r0, r0b, r0 again) loses no restart and
// counts none twice, over a restart of the manager too; what failed before it counts neither for
// the breaker nor as a restart since the pool was stable.
func TestRestartsAreCarriedOver(t *testing.T) {
	scenario(t, "to_the_other_side_and_back", func(t *testing.T, w *world) {
		n, s := notes{}, &shelf{kept: make(map[string]keep.Intent)}
		desired := pools(llama("a", failing))
		m := w.manage(t, desired, with(s, &held{}), withNotes(n))
		want := func(when string, total, since int) {
			t.Helper()
			if p := m.pool("a"); p.RestartCount != total || p.RestartsSinceStable != since || p.Breaker != "closed" {
				t.Fatalf("%s: %d restarts, %d since it was stable, breaker %s; want %d and %d, closed", when,
					p.RestartCount, p.RestartsSinceStable, p.Breaker, total, since)
			}
		}
		crashes := func(side, times int) {
			t.Helper()
			for range times {
				w.change(place(0, side), crashed)
				time.Sleep(time.Second)
				w.change(place(0, side), func(st *systemd.Status) { st.NRestarts++ })
				w.again(place(0, side))
				w.change(place(0, side), func(st *systemd.Status) { st.ActiveState, st.SubState = "active", "running" })
				time.Sleep(time.Second)
				m.wantState("a", registry.StateReady, true)
			}
		}
		w.passGate(place(0, 0))
		crashes(0, 2)
		want("before the reload", 2, 2)

		m.reload("b.gguf", time.Minute)
		want("while both sides exist", 2, 2)
		w.passGate(place(0, 1))
		time.Sleep(time.Second)
		m.wantServed("r0b", "b.gguf")
		want("on the other side", 2, 0)
		if _, kept := n["a/r0"]; kept {
			t.Errorf("the side that left is still written down: %s", n["a/r0"])
		}

		m.kill()
		m = w.manage(t, desired, with(s, &held{}), withNotes(n))
		m.wantState("a", registry.StateReady, true)
		want("to the next manager", 2, 0)
		crashes(1, 2) // three of one side would open the breaker
		want("after crashes of the other side", 4, 2)

		m.reload("c.gguf", time.Minute)
		w.passGate(place(0, 0))
		time.Sleep(time.Second)
		m.wantServed("r0", "c.gguf")
		want("on the first side again", 4, 0)
		crashes(0, 1)
		want("in the end", 5, 1)
	})
}
