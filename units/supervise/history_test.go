package supervise

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// notes is what was marked; it outlives a manager.
type notes map[string]json.RawMessage

func (n notes) Put(key string, value json.RawMessage) error { n[key] = value; return nil }
func (n notes) Drop(key string) error                       { delete(n, key); return nil }

func withNotes(n notes) func(*Options) {
	return func(o *Options) {
		o.Histories, o.SavedHistories = n, make(map[string]json.RawMessage)
		for k, v := range n {
			o.SavedHistories[k] = v
		}
	}
}

// failing is a pool whose breaker opens after three failures, for a minute.
func failing(p *pool.Pool) {
	p.Restart.BreakerFailures, p.Restart.BreakerTimeout, p.Restart.BreakerStable, p.Restart.BreakerMax = 3, time.Minute,
		30*time.Second, time.Hour
	p.Restart.ClassFactor = 2
}

// crash lets the engine end, and its end be reported.
func (w *world) crash() {
	w.change(unitOf("a"), func(st *systemd.Status) {
		crashed(st)
		st.StateChange = time.Now()
	})
	time.Sleep(600 * time.Millisecond)
	synctest.Wait()
}

// restarted is PID 1's own restart, and a gate that passes.
func (w *world) restarted() {
	w.change(unitOf("a"), func(st *systemd.Status) { st.NRestarts++ }) // before the run, as PID 1 does
	w.again(unitOf("a"))
	w.change(unitOf("a"), func(st *systemd.Status) { st.ActiveState, st.SubState = "active", "running" })
	synctest.Wait()
}

func TestBreaker(t *testing.T) {
	breaking := func(t *testing.T, w *world, n notes) *manager {
		m := w.manage(t, pools(llama("a", failing)), withNotes(n))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		return m
	}
	open := func(t *testing.T, w *world, m *manager) {
		t.Helper()
		for i := range 3 {
			w.crash()
			if i < 2 {
				m.wantState("a", registry.StateBackoff, false)
				w.restarted()
			}
		}
		m.wantState("a", registry.StateFailed, false)
		m.wantCode("a", registry.CodeBreakerOpen)
	}
	scenario(t, "it_opens_and_pid_1_starts_nothing", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		open(t, w, m)
		p := m.pool("a")
		if p.Breaker != "open" || p.Live || p.NextStart.IsZero() || !strings.Contains(p.LastError.Message,
			"3 failures in a row") || !strings.Contains(p.LastError.Hint, "poolctl reset a") {
			t.Errorf("%+v", p)
		}
		if w.called("stop") != 1 {
			t.Errorf("PID 1 still waits to start it: %v", w.calls)
		}
		time.Sleep(50 * time.Second)
		m.wantState("a", registry.StateFailed, false)
		if w.called("start") != 1 {
			t.Errorf("started while the breaker is open: %v", w.calls)
		}
	})
	scenario(t, "one_trial_that_proves_itself_closes_it", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		open(t, w, m)
		time.Sleep(70 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		if p := m.pool("a"); p.Breaker != "half-open" {
			t.Errorf("breaker %s", p.Breaker)
		}
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		time.Sleep(31 * time.Second)
		if p := m.pool("a"); p.Breaker != "closed" || p.RestartCount != 3 {
			t.Errorf("breaker %s, %d restarts", p.Breaker, p.RestartCount)
		}
	})
	scenario(t, "a_pool_that_was_removed_while_no_manager_ran_begins_anew", func(t *testing.T, w *world) {
		n := notes{}
		former := breaking(t, w, n)
		open(t, w, former)
		former.kill()
		w.manage(t, pools(), withNotes(n)).kill()
		if len(n) != 0 {
			t.Errorf("still marked: %s", n)
		}
		m := w.manage(t, pools(llama("a", failing)), withNotes(n))
		m.wantState("a", registry.StateStarting, false)
		if p := m.pool("a"); p.Breaker != "closed" || p.RestartCount != 0 {
			t.Errorf("breaker %s, %d restarts", p.Breaker, p.RestartCount)
		}
	})
	scenario(t, "a_file_that_cannot_be_read_makes_nothing_forgotten", func(t *testing.T, w *world) {
		n := notes{}
		m := breaking(t, w, n)
		w.crash()
		w.restarted()
		m.kill()
		m = w.manage(t, Desired{Problems: []registry.Problem{bad("a")}}, withNotes(n))
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateReady, true)
		if w.called("reset") != 0 || m.pool("a").RestartCount != 1 {
			t.Errorf("%d restarts; calls %v", m.pool("a").RestartCount, w.calls)
		}
	})
	scenario(t, "a_trial_that_fails_opens_it_for_twice_as_long", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		open(t, w, m)
		time.Sleep(70 * time.Second)
		w.crash()
		m.wantState("a", registry.StateFailed, false)
		if w.called("start") != 2 || w.called("stop") != 2 {
			t.Errorf("want one trial, and PID 1 kept from another: %v", w.calls)
		}
		time.Sleep(110 * time.Second)
		m.wantState("a", registry.StateFailed, false)
		time.Sleep(30 * time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "it_outlives_the_manager", func(t *testing.T, w *world) {
		n := notes{}
		m := breaking(t, w, n)
		open(t, w, m)
		m.kill()
		m = w.manage(t, pools(llama("a", failing)), withNotes(n))
		time.Sleep(30 * time.Second)
		if p := m.pool("a"); p.Breaker != "open" || p.Ready || w.called("start") != 1 || p.RestartCount != 2 {
			t.Errorf("breaker %s, %d restarts, calls %v", p.Breaker, p.RestartCount, w.calls)
		}
		time.Sleep(40 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		if n := m.pool("a").RestartCount; n != 3 {
			t.Errorf("%d restarts, want the trial to be the third", n)
		}
	})
	scenario(t, "no_restart_counts_twice_while_it_is_taken_from_pid_1", func(t *testing.T, w *world) {
		n := notes{}
		m := breaking(t, w, n)
		for range 2 {
			w.crash()
			w.restarted()
		}
		w.stubborn = make(chan struct{})
		w.crash()
		if got := m.pool("a").RestartCount; w.called("stop") != 1 || got != 2 {
			t.Errorf("while PID 1 stops it: %d restarts, calls %v", got, w.calls)
		}
		m.kill()
		m = w.manage(t, pools(llama("a", failing)), withNotes(n))
		if got := m.pool("a").RestartCount; got != 2 {
			t.Errorf("to the next manager: %d restarts", got)
		}
		close(w.stubborn)
		time.Sleep(time.Second)
		if got := m.pool("a").RestartCount; got != 2 {
			t.Errorf("when it is gone: %d restarts", got)
		}
		time.Sleep(70 * time.Second)
		m.wantState("a", registry.StateStarting, false)
		if got := m.pool("a").RestartCount; got != 3 {
			t.Errorf("when it is started again: %d restarts", got)
		}
	})
	scenario(t, "one_that_cannot_be_taken_from_pid_1_is_counted_by_it", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		for range 2 {
			w.crash()
			w.restarted()
		}
		w.stopErr = errors.New("access denied")
		w.crash()
		w.restarted()
		if got := m.pool("a").RestartCount; got != 3 {
			t.Errorf("%d restarts, calls %v", got, w.calls)
		}
	})
	scenario(t, "an_operator_closes_it", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		open(t, w, m)
		if err := m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		m.wantState("a", registry.StateStarting, false)
		if p := m.pool("a"); p.Breaker != "closed" {
			t.Errorf("breaker %s", p.Breaker)
		}
	})
	scenario(t, "a_changed_file_closes_it", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		open(t, w, m)
		m.apply(pools(llama("a", failing, model("b.gguf"))))
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_drain_while_it_is_open_and_a_resume", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		open(t, w, m)
		m.drain(time.Minute)
		m.wantState("a", registry.StateStopped, false)
	})
	scenario(t, "a_stable_run_is_forgiven_by_pid_1_too", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		w.crash()
		w.restarted()
		m.wantState("a", registry.StateReady, true)
		if m.pool("a").RestartCount != 1 {
			t.Errorf("%d restarts", m.pool("a").RestartCount)
		}
		time.Sleep(11 * time.Minute)
		synctest.Wait()
		if w.called("reset "+unitOf("a")) != 1 || m.pool("a").RestartCount != 1 {
			t.Errorf("%d restarts, calls %v", m.pool("a").RestartCount, w.calls)
		}
	})
	scenario(t, "a_cuda_error_waits_longer_than_pid_1_would", func(t *testing.T, w *world) {
		m := breaking(t, w, notes{})
		w.change(unitOf("a"), func(st *systemd.Status) {
			r := m.s
			r.post(func() {
				e := r.entries["a"].sorted()[0]
				e.last.fault = &fault{failure: registry.Fail(registry.CodeCUDAError, "Xid 31", ""),
					run: e.unit.status.InvocationID, at: time.Now()}
			})
		})
		w.crash()
		m.wantState("a", registry.StateBackoff, false)
		if p := m.pool("a"); w.called("stop") != 1 || p.Backoff < time.Second {
			t.Errorf("backoff %s, calls %v", p.Backoff, w.calls)
		}
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "failures_while_no_manager_looks_count", func(t *testing.T, w *world) {
		n := notes{}
		m := breaking(t, w, n)
		m.kill()
		w.restarted()
		w.restarted()
		m = w.manage(t, pools(llama("a", failing)), withNotes(n))
		m.wantState("a", registry.StateReady, true)
		w.crash()
		m.wantCode("a", registry.CodeBreakerOpen)
	})
}
