package supervise

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// modelIs says which files the model of pool a is.
func (w *world) modelIs(contents string) {
	w.with(func() { w.contents["/srv/models/a.gguf"] = contents })
}

// reloadSame is "poolctl reload a".
func (m *manager) reloadSame() {
	m.t.Helper()
	if err := m.s.Reload(m.t.Context(), "a", ReloadRequest{Deadline: -1, By: "uid:0"}); err != nil {
		m.t.Fatal(err)
	}
	synctest.Wait()
}

// TestReplacedModel: files that were replaced behind a pool's path are another version of it, at
// the next reload of the pool or of the manager, and nothing before.
func TestReplacedModel(t *testing.T) {
	scenario(t, "a_reload_of_the_pool_brings_it_to_the_new_files", func(t *testing.T, w *world) {
		w.modelIs("one")
		m, s, _ := drainable(t, w)
		w.modelIs("two")
		time.Sleep(time.Hour)
		if w.called("start") != 1 {
			t.Fatalf("no one asked for a reload: %v", w.calls)
		}
		m.reloadSame()
		time.Sleep(time.Minute)
		w.passGate(besideOf("a"))
		time.Sleep(time.Second)
		m.wantServed("r0b", "a.gguf")
		m.reloadSame() // served already
		m.kill()
		m = w.manage(t, pools(llama("a")), with(s, &held{}))
		m.wantServed("r0b", "a.gguf")
		if w.called("start") != 2 || s.kept["a"].Override != nil {
			t.Errorf("written down %+v, calls %v", s.kept["a"], w.calls)
		}
	})
	scenario(t, "a_reload_of_the_manager_too", func(t *testing.T, w *world) {
		w.modelIs("one")
		m, _, _ := drainable(t, w)
		m.apply(pools(llama("a")))
		if w.called("start") != 1 {
			t.Fatalf("the same files: %v", w.calls)
		}
		w.modelIs("two")
		m.apply(pools(llama("a")))
		time.Sleep(time.Minute)
		w.passGate(besideOf("a"))
		time.Sleep(time.Second)
		m.wantServed("r0b", "a.gguf")
	})
	// Whether the new engine starts beside the former one depends on whether that was probed yet.
	scenario(t, "and_a_start_of_the_manager", func(t *testing.T, w *world) {
		w.modelIs("one")
		m, s, h := drainable(t, w)
		pid := m.pool("a").Replicas[0].PID
		m.kill()
		w.modelIs("two")
		m = w.manage(t, pools(llama("a")), with(s, h))
		time.Sleep(time.Minute)
		loading := unitOf("a")
		w.with(func() {
			if st := w.units[besideOf("a")]; st != nil {
				loading = st.Name
			}
		})
		w.passGate(loading)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateReady, true)
		if r := m.pool("a").Replicas[0]; r.PID == pid || w.called("start") != 2 {
			t.Errorf("process %d, was %d; calls %v", r.PID, pid, w.calls)
		}
	})
	scenario(t, "files_that_are_gone_cost_nothing_and_are_reported", func(t *testing.T, w *world) {
		w.modelIs("one")
		m, _, _ := drainable(t, w)
		pid := m.pool("a").Replicas[0].PID
		w.modelIs(pool.AbsentContents)
		w.with(func() {
			w.stage = func(pool.Pool) error { return registry.Fail(registry.CodeModelNotFound, "gone", "copy it") }
		})
		m.apply(pools(llama("a")))
		m.wantState("a", registry.StateReady, true)
		m.reloadSame()
		time.Sleep(time.Second)
		if r := m.wantServed("r0", "a.gguf"); r.PID != pid || r.LastError == nil ||
			r.LastError.Code != registry.CodeModelNotFound {
			t.Errorf("process %d, was %d; reported: %v", r.PID, pid, r.LastError)
		}
	})
	scenario(t, "new_files_that_do_not_load_cost_nothing_and_are_not_tried_again", func(t *testing.T, w *world) {
		w.modelIs("one")
		m, s, h := drainable(t, w)
		w.modelIs("two")
		m.apply(pools(llama("a")))
		time.Sleep(time.Minute)
		w.change(besideOf("a"), crashed)
		time.Sleep(time.Minute)
		m.wantServed("r0", "a.gguf")
		m.apply(pools(llama("a")))
		m.kill()
		m = w.manage(t, pools(llama("a")), with(s, h))
		time.Sleep(time.Minute)
		m.wantServed("r0", "a.gguf")
		if w.called("start "+besideOf("a")) != 1 {
			t.Errorf("calls: %v", w.calls)
		}
	})
	scenario(t, "what_waits_for_its_model_takes_it_as_it_comes", func(t *testing.T, w *world) {
		w.modelIs(pool.AbsentContents)
		w.with(func() {
			w.stage = func(pool.Pool) error { return registry.Fail(registry.CodeModelNotFound, "not there", "copy it") }
		})
		m := w.manage(t, pools(llama("a")))
		m.wantState("a", registry.StateFailed, false)
		w.modelIs("one")
		w.with(func() { w.stage = nil })
		time.Sleep(time.Minute)
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		m.apply(pools(llama("a")))
		if w.called("start") != 1 {
			t.Errorf("calls: %v", w.calls)
		}
	})
}
