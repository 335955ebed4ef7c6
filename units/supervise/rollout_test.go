package supervise

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// place is the unit on one side of a place of pool a.
func place(index, side int) string { return pool.Replica{Pool: "a", Index: index, Side: side}.Unit() }

// twins is a pool of two replicas, both ready.
func twins(t *testing.T, w *world, changes ...func(*pool.Pool)) (*manager, *shelf, *held) {
	s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
	two := func(p *pool.Pool) { p.Replicas, p.Devices = 2, [][]string{nil, nil} }
	m := w.manage(t, pools(llama("a", append(changes, two)...)), with(s, h))
	for i := range 2 {
		w.passGate(place(i, 0))
	}
	m.wantState("a", registry.StateReady, true)
	return m, s, h
}

// TestReloadOfManyReplicas: one at a time, all or nothing.
func TestReloadOfManyReplicas(t *testing.T) {
	scenario(t, "one_at_a_time", func(t *testing.T, w *world) {
		m, s, _ := twins(t, w)
		m.reload("b.gguf", time.Minute)
		if w.called("start "+place(1, 1)) != 0 {
			t.Fatalf("the second replica was touched before the first is done: %v", w.calls)
		}
		w.passGate(place(0, 1))
		time.Sleep(time.Second)
		w.passGate(place(1, 1))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateReady, true)
		if p := m.pool("a"); len(p.Replicas) != 2 || p.ModelID != "file:/srv/models/b.gguf" ||
			s.kept["a"].Reload != nil {
			t.Errorf("model %s, replicas %+v, written down %+v", p.ModelID, p.Replicas, s.kept["a"].Reload)
		}
	})
	scenario(t, "the_second_fails_and_the_first_goes_back", func(t *testing.T, w *world) {
		m, s, _ := twins(t, w)
		pid := m.pool("a").Replicas[1].PID
		m.reload("b.gguf", time.Minute)
		w.passGate(place(0, 1))
		time.Sleep(time.Second)
		w.change(place(1, 1), crashed)
		time.Sleep(time.Second)
		w.passGate(place(0, 0))
		time.Sleep(time.Second)
		m.wantGoneBack(s, rollout.Load, pid)
	})
	scenario(t, "a_replaced_one_crashes_while_the_second_loads_and_all_go_back", func(t *testing.T, w *world) {
		m, s, _ := twins(t, w)
		pid := m.pool("a").Replicas[1].PID
		m.reload("b.gguf", time.Minute)
		w.passGate(place(0, 1))
		time.Sleep(time.Second)
		w.change(place(0, 1), crashed)
		time.Sleep(time.Second)
		w.passGate(place(0, 0))
		time.Sleep(time.Second)
		m.wantGoneBack(s, rollout.Health, pid)
	})
	scenario(t, "a_drain_in_the_middle_ends_the_reload_while_the_pool_is_stopped", func(t *testing.T, w *world) {
		m, s, _ := twins(t, w)
		m.reload("b.gguf", time.Minute)
		w.passGate(place(0, 1))
		time.Sleep(time.Second)
		m.drain(time.Minute)
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateStopped, false)
		if rec := s.kept["a"].Reload; rec != nil {
			t.Fatalf("the reload waits for the resume: %+v", rec)
		}
		m.resume()
		for i := range 2 {
			w.passGate(place(i, 0))
		}
		m.wantState("a", registry.StateReady, true)
		if p := m.pool("a"); p.ModelID != "file:/srv/models/a.gguf" {
			t.Errorf("model %s", p.ModelID)
		}
	})
}

// wantGoneBack is a pool on its former model, whose second replica was never touched.
func (m *manager) wantGoneBack(s *shelf, why rollout.Reason, pid int) {
	m.t.Helper()
	m.wantState("a", registry.StateReady, true)
	p := m.pool("a")
	if len(p.Replicas) != 2 || p.ModelID != "file:/srv/models/a.gguf" || p.Replicas[0].ID != "r0" ||
		p.Replicas[1].PID != pid {
		m.t.Errorf("model %s, replicas %+v; the second had pid %d", p.ModelID, p.Replicas, pid)
	}
	if k := s.kept["a"]; k.Reload != nil || k.Rejected == nil || k.Rejected.Reason != why {
		m.t.Errorf("written down: %+v, %+v; want %s", k.Reload, k.Rejected, why)
	}
}

// TestReloadWhoseOldEngineEnds: a process that has ended holds nothing, so that no one waits for
// it.
func TestReloadWhoseOldEngineEnds(t *testing.T) {
	for _, c := range []struct {
		name string
		ends func(*world)
	}{
		{"stopped_by_hand", func(w *world) { w.change(unitOf("a"), stoppedByHand) }},
		{"crashed", func(w *world) { w.change(unitOf("a"), crashed) }},
	} {
		scenario(t, "beside/"+c.name, func(t *testing.T, w *world) {
			m, _, h := drainable(t, w)
			h.n.Store(1)
			m.reload("b.gguf", time.Hour)
			w.passGate(besideOf("a"))
			c.ends(w)
			time.Sleep(time.Second)
			m.wantServed("r0b", "b.gguf")
		})
		scenario(t, "in_place/"+c.name, func(t *testing.T, w *world) {
			s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
			m := w.manage(t, pools(llama("a", sharedPort)), with(s, h))
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			h.n.Store(1)
			m.reload("b.gguf", time.Hour)
			c.ends(w)
			time.Sleep(time.Second)
			w.passGate(besideOf("a"))
			m.wantServed("r0b", "b.gguf")
		})
	}
}

// TestReloadInPlaceGoesBackInOrder: the new engine is gone before the old one starts, since they
// share a port.
func TestReloadInPlaceGoesBackInOrder(t *testing.T) {
	scenario(t, "dropping", func(t *testing.T, w *world) {
		s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
		m := w.manage(t, pools(llama("a", sharedPort)), with(s, h))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		m.reload("b.gguf", time.Minute)
		time.Sleep(time.Second)
		w.with(func() { w.calls, w.stopErr = nil, errors.New("PID 1 is slow") })
		w.change(besideOf("a"), crashed)
		time.Sleep(time.Second)
		synctest.Wait()
		if w.called("start") != 0 {
			t.Errorf("the old engine was started while the new one has its port: %v", w.calls)
		}
		w.with(func() { w.stopErr = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		w.passGate(unitOf("a"))
		m.wantServed("r0", "a.gguf")
	})
}
