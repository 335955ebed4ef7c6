package supervise

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// TestUpdatesUnderWay: what PID 1 signalled before a unit was gone is no news afterwards, however
// long it takes to arrive. It once made the loop take up a forgotten unit again, and a pool that
// had just been reloaded changed back to that side: its engine was stopped while it served.
func TestUpdatesUnderWay(t *testing.T) {
	reloaded := func(t *testing.T, w *world, lag func() time.Duration, ends func(*systemd.Status)) {
		m, _, h := drainable(t, w)
		h.n.Store(1)
		m.reload("b.gguf", time.Hour)
		w.passGate(besideOf("a"))
		synctest.Wait()
		w.with(func() { w.lag = lag })
		w.change(unitOf("a"), ends)
		time.Sleep(time.Minute)
		m.wantServed("r0b", "b.gguf")
		if n := w.called("stop " + besideOf("a")); n != 0 {
			t.Errorf("the engine that serves was stopped: %v", w.calls)
		}
		if n := w.called("stop " + unitOf("a")); n > 1 {
			t.Errorf("the former unit was stopped %d times: %v", n, w.calls)
		}
	}
	for name, ends := range map[string]func(*systemd.Status){"stopped_by_hand": stoppedByHand, "crashed": crashed} {
		for _, lag := range []time.Duration{0, time.Millisecond, time.Second} {
			scenario(t, fmt.Sprintf("%s/each_takes_%s", name, lag), func(t *testing.T, w *world) {
				reloaded(t, w, func() time.Duration { return lag }, ends)
			})
		}
		for seed := range uint64(50) {
			scenario(t, fmt.Sprintf("%s/any_takes_up_to_5ms/%d", name, seed), func(t *testing.T, w *world) {
				var mu sync.Mutex
				random := rand.New(rand.NewPCG(7, seed))
				reloaded(t, w, func() time.Duration {
					mu.Lock()
					defer mu.Unlock()
					return time.Duration(random.IntN(5)) * time.Millisecond
				}, ends)
			})
		}
	}
}

// TestAnswersUnderWay: an answer of PID 1 that an update has overtaken is not believed.
func TestAnswersUnderWay(t *testing.T) {
	scenario(t, "the_engine_fails_for_good_after_a_stop_whose_outcome_was_lost", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.with(func() {
			w.lag = func() time.Duration { return 100 * time.Millisecond }
			w.stopErr = systemd.ErrDisconnected
		})
		m.apply(pools())
		// The stop takes 0.2 s, the manager waits for a second, and the answer that the engine runs
		// is under way from 1.3 s to 1.4 s.
		time.Sleep(1350 * time.Millisecond)
		w.with(func() { w.lag, w.stopErr = nil, nil })
		w.change(unitOf("a"), func(st *systemd.Status) {
			crashed(st)
			st.ActiveState, st.SubState, st.EndedFirst = "failed", "failed", true
		})
		time.Sleep(10 * time.Second)
		if w.called("stop") != 1 || w.called("clear") == 0 {
			t.Errorf("what has ended was stopped once more: %v", w.calls)
		}
	})
}

// TestSideThatServesIsKept: of two engines of one place, the one that serves is not given up for
// one that may come to.
func TestSideThatServesIsKept(t *testing.T) {
	e := &entry{id: "a", replicas: make(map[pool.Replica]*replica)}
	for side, phase := range []reconcile.Phase{reconcile.Starting, reconcile.Active} {
		id := pool.Replica{Pool: "a", Side: side}
		e.replicas[id] = &replica{entry: e, id: id, unit: unit{phase: phase}}
	}
	if side := e.side(0); side != 1 {
		t.Errorf("side %d is chosen, where 1 serves", side)
	}
}
