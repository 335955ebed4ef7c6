package supervise

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// reload asks for another model.
func (m *manager) reload(name string, deadline time.Duration) {
	m.t.Helper()
	if err := m.s.Reload(m.t.Context(), "a", ReloadRequest{Model: pool.Model("file:/srv/models/" + name),
		Deadline: deadline, By: "uid:0"}); err != nil {
		m.t.Fatal(err)
	}
	synctest.Wait()
}

// wantServed is one ready replica of that name and model, with that process.
func (m *manager) wantServed(id, name string) registry.Replica {
	m.t.Helper()
	m.wantState("a", registry.StateReady, true)
	p := m.pool("a")
	if len(p.Replicas) != 1 || p.Replicas[0].ID != id || p.ModelID != "file:/srv/models/"+name {
		m.t.Fatalf("model %s, replicas %+v; want %s with %s", p.ModelID, p.Replicas, id, name)
	}
	return p.Replicas[0]
}

func TestOperatorReloads(t *testing.T) {
	scenario(t, "the_new_engine_starts_beside_the_old_one", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		m.reload("b.gguf", time.Minute)
		m.wantState("a", registry.StateReady, true)
		if w.called("start "+besideOf("a")) != 1 || w.called("stop") != 0 {
			t.Fatalf("calls: %v", w.calls)
		}
		w.passGate(besideOf("a"))
		m.wantState("a", registry.StateReady, true)
		if w.called("stop") != 0 {
			t.Error("the old engine was stopped while a lease was held")
		}
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantServed("r0b", "b.gguf")
		if k := s.kept["a"]; k.Override == nil || k.Override.Model != "file:/srv/models/b.gguf" || k.Reload != nil {
			t.Errorf("written down: %+v", k)
		}
		m.kill()
		m = w.manage(t, pools(llama("a")), with(s, h))
		m.wantServed("r0b", "b.gguf")
		if w.called("start") != 2 {
			t.Errorf("calls: %v", w.calls)
		}
		if err := m.s.Reload(t.Context(), "a", ReloadRequest{Forget: true, Deadline: -1}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		m.wantServed("r0", "a.gguf")
		if s.kept["a"].Override != nil {
			t.Errorf("written down: %+v", s.kept["a"])
		}
	})
	scenario(t, "what_is_served_already_is_no_reload", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		m.reload("a.gguf", time.Minute)
		m.wantServed("r0", "a.gguf")
		if w.called("start") != 1 {
			t.Errorf("calls: %v", w.calls)
		}
	})
	scenario(t, "a_model_that_is_not_there_changes_nothing", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		pid := m.pool("a").Replicas[0].PID
		w.with(func() { w.stage = missing("b.gguf") })
		m.reload("b.gguf", time.Minute)
		time.Sleep(time.Second)
		if r := m.wantServed("r0", "a.gguf"); r.PID != pid {
			t.Errorf("pid %d, was %d", r.PID, pid)
		}
		m.wantCode("a", registry.CodeModelNotFound)
		if w.called("stop") != 0 || w.called("start") != 1 {
			t.Errorf("calls: %v", w.calls)
		}
	})
	scenario(t, "an_engine_that_does_not_load_changes_nothing", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		m.reload("b.gguf", time.Minute)
		w.change(besideOf("a"), crashed)
		time.Sleep(time.Second)
		m.wantServed("r0", "a.gguf")
		m.wantCode("a", registry.CodeEngineCrashed)
		if w.called("stop "+unitOf("a")) != 0 {
			t.Errorf("calls: %v", w.calls)
		}
		if r := s.kept["a"].Rejected; r == nil || r.Reason != rollout.Load {
			t.Errorf("written down: %+v", r)
		}
		m.kill()
		m = w.manage(t, pools(llama("a")), with(s, h))
		m.wantServed("r0", "a.gguf")
		m.wantCode("a", registry.CodeEngineCrashed)
	})
	scenario(t, "a_lease_at_the_deadline_rolls_back_and_is_not_cut", func(t *testing.T, w *world) {
		m, _, h := drainable(t, w)
		h.n.Store(2)
		m.reload("b.gguf", 10*time.Second)
		w.passGate(besideOf("a"))
		time.Sleep(11 * time.Second)
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantServed("r0", "a.gguf")
		m.wantCode("a", registry.CodeDrainTimeout)
		if f := m.pool("a").LastError; !strings.Contains(f.Message,
			"2 leases were still held at the drain deadline; nothing was cut") {
			t.Errorf("last_error is %v", f)
		}
		if w.called("stop "+unitOf("a")) != 0 || h.cuts.Load() != 0 {
			t.Errorf("%d cuts, calls: %v", h.cuts.Load(), w.calls)
		}
		m.resume()
		if f := m.pool("a").LastError; f != nil {
			t.Errorf("still reported after another request: %v", f)
		}
	})
	scenario(t, "no_model_named_is_the_one_that_it_serves_with_its_digest", func(t *testing.T, w *world) {
		m, s, _ := drainable(t, w)
		digest := "sha256:" + strings.Repeat("0", 64)
		ask := ReloadRequest{Model: "file:/srv/models/b.gguf", Digest: digest, Deadline: time.Minute, By: "uid:0"}
		for range 2 {
			if err := m.s.Reload(t.Context(), "a", ask); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if s.kept["a"].Reload != nil {
				w.passGate(besideOf("a"))
			}
			m.wantServed("r0b", "b.gguf")
			ask = ReloadRequest{Deadline: time.Minute, By: "uid:0"}
		}
		if k := s.kept["a"]; w.called("start") != 2 || k.Override == nil || k.Override.Digest != digest {
			t.Errorf("%d starts, override %+v", w.called("start"), k.Override)
		}
	})
	scenario(t, "a_reload_to_what_is_served_takes_the_failure_of_the_last_one_away", func(t *testing.T, w *world) {
		m, _, h := drainable(t, w)
		h.n.Store(1)
		m.reload("b.gguf", 10*time.Second)
		w.passGate(besideOf("a"))
		time.Sleep(11 * time.Second)
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantCode("a", registry.CodeDrainTimeout)
		m.reload("a.gguf", time.Minute)
		if f := m.pool("a").LastError; f != nil {
			t.Errorf("still reported: %v", f)
		}
	})
	scenario(t, "one_reload_at_a_time", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		m.reload("b.gguf", time.Minute)
		err := m.s.Reload(t.Context(), "a", ReloadRequest{Model: "file:/srv/models/c.gguf"})
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != registry.CodeReloadInProgress {
			t.Errorf("err = %v", err)
		}
	})
	scenario(t, "a_pool_that_does_not_run_takes_it_at_its_next_start", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		m.drain(time.Minute)
		m.reload("b.gguf", time.Minute)
		m.resume()
		w.passGate(unitOf("a"))
		m.wantServed("r0", "b.gguf")
	})
	scenario(t, "a_drain_ends_the_reload_and_stops_the_pool", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		m.reload("b.gguf", time.Minute)
		m.drain(time.Minute)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		m.resume()
		w.passGate(unitOf("a"))
		m.wantServed("r0", "a.gguf")
	})
}

// sharedPort lets a pool name its port, so that two engines of it cannot run at once.
func sharedPort(p *pool.Pool) { p.Port = 8080 }

func TestOperatorReloadsInPlace(t *testing.T) {
	ready := func(t *testing.T, w *world) (*manager, *shelf, *held) {
		s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
		m := w.manage(t, pools(llama("a", sharedPort)), with(s, h))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		return m, s, h
	}
	scenario(t, "the_old_engine_goes_first", func(t *testing.T, w *world) {
		m, _, h := ready(t, w)
		h.n.Store(1)
		m.reload("b.gguf", time.Minute)
		m.wantState("a", registry.StateDraining, false)
		if w.called("start") != 1 {
			t.Fatalf("calls: %v", w.calls)
		}
		h.n.Store(0)
		time.Sleep(time.Second)
		w.passGate(besideOf("a"))
		if r := m.wantServed("r0b", "b.gguf"); r.Endpoint != "http://127.0.0.1:8080" {
			t.Errorf("endpoint %s", r.Endpoint)
		}
	})
	scenario(t, "a_lease_at_the_deadline_keeps_the_old_process", func(t *testing.T, w *world) {
		m, _, h := ready(t, w)
		pid := m.pool("a").Replicas[0].PID
		h.n.Store(1)
		m.reload("b.gguf", 10*time.Second)
		time.Sleep(11 * time.Second)
		if r := m.wantServed("r0", "a.gguf"); r.PID != pid {
			t.Errorf("pid %d, was %d", r.PID, pid)
		}
		m.wantCode("a", registry.CodeDrainTimeout)
	})
	scenario(t, "a_load_that_fails_brings_the_old_model_back", func(t *testing.T, w *world) {
		m, _, _ := ready(t, w)
		m.reload("b.gguf", time.Minute)
		time.Sleep(time.Second)
		w.change(besideOf("a"), crashed)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStarting, false)
		w.passGate(unitOf("a"))
		m.wantServed("r0", "a.gguf")
		m.wantCode("a", registry.CodeEngineCrashed)
	})
	scenario(t, "a_changed_file_that_does_not_load_is_gone_back_from", func(t *testing.T, w *world) {
		m, s, h := ready(t, w)
		changed := pools(llama("a", sharedPort, model("b.gguf")))
		m.apply(changed)
		time.Sleep(time.Second)
		w.change(besideOf("a"), crashed)
		time.Sleep(time.Second)
		w.passGate(unitOf("a"))
		m.wantServed("r0", "a.gguf")
		starts := w.called("start")
		m.apply(changed)
		time.Sleep(time.Hour)
		m.wantServed("r0", "a.gguf")
		m.kill()
		m = w.manage(t, changed, with(s, h))
		m.wantServed("r0", "a.gguf")
		m.wantCode("a", registry.CodeEngineCrashed)
		if w.called("start") != starts {
			t.Errorf("a version that was gone back from is tried again: %v", w.calls)
		}
		if err := m.s.Reload(t.Context(), "a", ReloadRequest{Deadline: -1}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.passGate(besideOf("a"))
		m.wantServed("r0b", "b.gguf")
		if p := m.pool("a"); p.LastError != nil {
			t.Errorf("last_error = %v", p.LastError)
		}
	})
}

// TestManagerDiesInAReload kills the manager after each step, and lets a new one go on.
func TestManagerDiesInAReload(t *testing.T) {
	for _, c := range []struct {
		name  string
		fails bool
		in    func(*pool.Pool)
	}{
		{"beside", false, func(*pool.Pool) {}}, {"beside_and_back", true, func(*pool.Pool) {}},
		{"in_place", false, sharedPort}, {"in_place_and_back", true, sharedPort},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
			files := pools(llama("a", c.in))
			m := w.manage(t, files, with(s, h))
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			m.reload("b.gguf", time.Minute)
			for range 20 { // more than a reload has steps
				m.kill()
				m = w.manage(t, files, with(s, h))
				if w.loads(besideOf("a")) {
					if c.fails {
						w.change(besideOf("a"), crashed)
					} else {
						w.passGate(besideOf("a"))
					}
				}
				if w.loads(unitOf("a")) {
					w.passGate(unitOf("a"))
				}
				time.Sleep(300 * time.Millisecond)
				synctest.Wait()
			}
			if c.fails {
				m.wantServed("r0", "a.gguf")
				m.wantCode("a", registry.CodeEngineCrashed)
			} else {
				m.wantServed("r0b", "b.gguf")
			}
			if s.kept["a"].Reload != nil {
				t.Errorf("written down: %+v", s.kept["a"].Reload)
			}
		})
	}
}

// loads reports whether a unit waits for its gate.
func (w *world) loads(unit string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	st := w.units[unit]
	return st != nil && st.ActiveState == "activating" && st.SubState == "start-post"
}
