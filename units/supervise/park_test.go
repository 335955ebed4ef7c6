package supervise

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/keep"
)

// shelf is what was written down; it outlives a manager.
type shelf struct {
	kept map[string]keep.Intent
	mu   sync.Mutex // for tests in which no one waits for an answer
	err  error
	then func() // called when something was written down
}

// fails lets every write fail, or none.
func (s *shelf) fails(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// of is what is written down of a pool.
func (s *shelf) of(id string) keep.Intent {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kept[id]
}

func (s *shelf) Put(id string, i keep.Intent) error {
	s.mu.Lock()
	err := s.err
	if err == nil {
		s.kept[id] = i
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if s.then != nil {
		s.then()
	}
	return nil
}

// held counts leases, of the first replica.
type held struct{ n, cuts atomic.Int64 }

func (h *held) SetPool(string, lease.Pool, func(string) string) {}
func (h *held) Forget(string)                                   {}
func (h *held) Active(_, replica string) int {
	if replica != "r0" {
		return 0
	}
	return int(h.n.Load())
}
func (h *held) Cut(string, string, string) { h.n.Store(0); h.cuts.Add(1) }

// with gives a manager a shelf and leases.
func with(s *shelf, h *held) func(*Options) {
	return func(o *Options) {
		o.Keep, o.Leases, o.Intents = s, h, make(map[string]keep.Intent)
		for id, i := range s.kept {
			o.Intents[id] = i
		}
	}
}

// drainable is a manager with one ready pool, a.
func drainable(t *testing.T, w *world) (*manager, *shelf, *held) {
	s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
	m := w.manage(t, pools(llama("a")), with(s, h))
	w.passGate(unitOf("a"))
	m.wantState("a", registry.StateReady, true)
	return m, s, h
}

func (m *manager) drain(deadline time.Duration) {
	m.t.Helper()
	if err := m.s.Drain(m.t.Context(), "a", deadline, "uid:0"); err != nil {
		m.t.Fatal(err)
	}
	synctest.Wait()
}

func (m *manager) resume() {
	m.t.Helper()
	if err := m.s.Resume(m.t.Context(), "a", "uid:0"); err != nil {
		m.t.Fatal(err)
	}
	synctest.Wait()
}

func TestOperatorDrains(t *testing.T) {
	scenario(t, "nothing_held_is_stopped_and_stays_so", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		m.drain(time.Minute)
		m.wantState("a", registry.StateStopped, false)
		if p := m.pool("a"); p.Live || p.Draining || p.LastError != nil {
			t.Errorf("live=%t draining=%t last_error=%v", p.Live, p.Draining, p.LastError)
		}
		if n := w.called("kill"); n != 0 {
			t.Errorf("%d kills of an engine that stopped by itself", n)
		}
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateStopped, false)
	})
	scenario(t, "until_a_restart_and_then_for_good", func(t *testing.T, w *world) {
		m, s, _ := drainable(t, w)
		drain := func(ask func(context.Context, string, time.Duration, string) error, want bool) {
			t.Helper()
			if err := ask(t.Context(), "a", time.Minute, "uid:0"); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			m.wantState("a", registry.StateStopped, false)
			s.mu.Lock()
			defer s.mu.Unlock()
			if d := s.kept["a"].Drain; d == nil || d.UntilRestart != want {
				t.Errorf("written down: %+v, want until a restart: %t", d, want)
			}
		}
		drain(m.s.DrainUntilRestart, true)
		drain(m.s.Drain, false) // an operator's drain is not forgotten
		drain(m.s.DrainUntilRestart, false)
	})
	scenario(t, "a_lease_may_finish", func(t *testing.T, w *world) {
		m, _, h := drainable(t, w)
		h.n.Store(1)
		m.drain(time.Minute)
		m.wantState("a", registry.StateDraining, false)
		time.Sleep(20 * time.Second)
		m.wantState("a", registry.StateDraining, false)
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		if h.cuts.Load() != 0 || m.pool("a").LastError != nil {
			t.Errorf("%d cuts, last_error %v", h.cuts.Load(), m.pool("a").LastError)
		}
	})
	scenario(t, "at_the_deadline_leases_are_cut", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(3)
		m.drain(10 * time.Second)
		time.Sleep(9 * time.Second)
		m.wantState("a", registry.StateDraining, false)
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateStopped, false)
		m.wantCode("a", registry.CodeDrainTimeout)
		if h.cuts.Load() != 1 {
			t.Error("no lease was cut")
		}
		if s.kept["a"].Drain == nil || s.kept["a"].Drain.Timeout != "3 leases were still held at the drain deadline "+
			"and were cut" {
			t.Errorf("written down: %+v", s.kept["a"].Drain)
		}
		m.kill()
		m = w.manage(t, pools(llama("a")), with(s, h))
		m.wantState("a", registry.StateStopped, false)
		m.wantCode("a", registry.CodeDrainTimeout)
	})
	scenario(t, "what_was_cut_is_written_down_before_it_is_cut", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(3)
		s.then = func() {
			if d := s.kept["a"].Drain; d != nil && d.Timeout != "" && (h.cuts.Load() != 0 || w.called("stop") != 0) {
				t.Errorf("%d cuts and %d stops before it was written down", h.cuts.Load(), w.called("stop"))
			}
		}
		m.drain(10 * time.Second)
		time.Sleep(11 * time.Second)
		m.wantState("a", registry.StateStopped, false)
		if h.cuts.Load() != 1 {
			t.Errorf("%d cuts", h.cuts.Load())
		}
	})
	for name, died := range map[string]func(h *held, w *world){
		"before_it_was_cut":   func(*held, *world) {},
		"before_the_stop":     func(h *held, _ *world) { h.n.Store(0) },
		"while_it_is_stopped": func(h *held, w *world) { h.n.Store(0); w.change(unitOf("a"), stopping) },
		"after_the_stop":      func(h *held, w *world) { h.n.Store(0); w.with(func() { delete(w.units, unitOf("a")) }) },
	} {
		scenario(t, "the_manager_dies_at_the_deadline/"+name, func(t *testing.T, w *world) {
			m, s, h := drainable(t, w)
			h.n.Store(3)
			m.drain(10 * time.Second)
			m.kill()
			noted := s.kept["a"]
			drain := *noted.Drain
			drain.Timeout = "3 leases were still held at the drain deadline and were cut"
			noted.Drain = &drain
			s.kept["a"] = noted
			died(h, w)
			time.Sleep(10 * time.Second)
			m = w.manage(t, pools(llama("a")), with(s, h))
			time.Sleep(2 * time.Second)
			m.wantState("a", registry.StateStopped, false)
			m.wantCode("a", registry.CodeDrainTimeout)
			if f := m.pool("a").LastError; f == nil || f.Message != drain.Timeout {
				t.Errorf("last_error is %v", f)
			}
		})
	}
	scenario(t, "a_restart_whose_stop_ended_without_a_manager_starts_again", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		if err := m.s.Restart(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		m.kill()
		h.n.Store(0)
		w.with(func() { delete(w.units, unitOf("a")) })
		m = w.manage(t, pools(llama("a")), with(s, h))
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "the_deadline_goes_on_while_no_manager_runs", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		m.drain(time.Minute)
		m.kill()
		time.Sleep(50 * time.Second)
		m = w.manage(t, pools(llama("a")), with(s, h))
		m.wantState("a", registry.StateDraining, false)
		time.Sleep(11 * time.Second)
		m.wantState("a", registry.StateStopped, false)
		m.wantCode("a", registry.CodeDrainTimeout)
	})
	scenario(t, "a_drained_pool_stays_stopped_over_a_restart", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		m.drain(time.Minute)
		m.kill()
		started := w.called("start")
		m = w.manage(t, pools(llama("a")), with(s, h))
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateStopped, false)
		if n := w.called("start"); n != started {
			t.Error("a drained pool was started")
		}
		m.resume()
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "resume_while_draining_keeps_the_process", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		pid := m.pool("a").Replicas[0].PID
		m.drain(time.Minute)
		m.wantState("a", registry.StateDraining, false)
		m.resume()
		m.wantState("a", registry.StateReady, true)
		if got := m.pool("a").Replicas[0].PID; got != pid || w.called("stop") != 0 {
			t.Errorf("pid %d, was %d; %d stops", got, pid, w.called("stop"))
		}
		if s.kept["a"].Drain != nil {
			t.Errorf("still written down: %+v", s.kept["a"])
		}
	})
	scenario(t, "a_nearer_deadline_wins_and_a_later_one_does_not", func(t *testing.T, w *world) {
		m, _, h := drainable(t, w)
		h.n.Store(1)
		m.drain(time.Hour)
		m.drain(10 * time.Second)
		m.drain(time.Hour)
		time.Sleep(12 * time.Second)
		m.wantState("a", registry.StateStopped, false)
	})
	scenario(t, "restart_drains_and_starts_again", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		if err := m.s.Restart(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		m.wantState("a", registry.StateDraining, false)
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStarting, false)
		if s.kept["a"].Drain != nil {
			t.Errorf("still written down: %+v", s.kept["a"])
		}
	})
	scenario(t, "resume_starts_what_was_stopped_by_hand", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		w.change(unitOf("a"), stoppedByHand)
		m.wantState("a", registry.StateStopped, false)
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateStopped, false)
		m.resume()
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "what_cannot_be_written_down_is_not_done", func(t *testing.T, w *world) {
		m, s, _ := drainable(t, w)
		s.err = registry.Fail(registry.CodeStateNotSaved, "no space left on device", "make room")
		err := m.s.Drain(t.Context(), "a", time.Minute, "uid:0")
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != registry.CodeStateNotSaved {
			t.Errorf("err = %v", err)
		}
		m.wantState("a", registry.StateReady, true)
		s.err = nil
		m.drain(time.Minute)
		m.wantState("a", registry.StateStopped, false)
	})
	scenario(t, "no_such_pool", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		if err := m.s.Drain(t.Context(), "b", 0, ""); !errors.Is(err, ErrNoSuchPool) {
			t.Errorf("err = %v", err)
		}
	})
	scenario(t, "a_removed_pool_is_asked_nothing_any_more", func(t *testing.T, w *world) {
		m, s, _ := drainable(t, w)
		m.drain(time.Minute)
		m.apply(pools())
		synctest.Wait()
		if s.kept["a"].Drain != nil {
			t.Errorf("still written down: %+v", s.kept["a"])
		}
	})
	scenario(t, "a_pool_removed_while_no_manager_ran_is_asked_nothing_any_more", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		m.drain(time.Minute)
		m.kill()
		m = w.manage(t, pools(), with(s, h))
		synctest.Wait()
		if s.kept["a"].Drain != nil {
			t.Errorf("still written down: %+v", s.kept["a"])
		}
		m.apply(pools(llama("a")))
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_file_that_may_be_its_own_is_broken_and_the_drain_holds", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		m.drain(time.Minute)
		m.kill()
		broken := Desired{Problems: []registry.Problem{{File: "x.toml", Text: "x.toml:1:1: bad"}}}
		m = w.manage(t, broken, with(s, h))
		m.apply(pools(llama("a")))
		m.wantState("a", registry.StateStopped, false)
	})
	scenario(t, "an_engine_that_crashes_while_it_drains_is_not_started_again", func(t *testing.T, w *world) {
		m, _, h := drainable(t, w)
		h.n.Store(1)
		m.drain(time.Minute)
		w.change(unitOf("a"), crashed)
		m.wantState("a", registry.StateStopped, false)
	})
	scenario(t, "two_operators_at_once", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		errs := make(chan error, 20)
		for i := range 20 {
			go func() {
				ask := func(ctx context.Context) error { return m.s.Drain(ctx, "a", time.Minute, "uid:0") }
				if i%2 == 1 {
					ask = func(ctx context.Context) error { return m.s.Resume(ctx, "a", "uid:1") }
				}
				errs <- ask(t.Context())
			}()
		}
		for range 20 {
			if err := <-errs; err != nil {
				t.Error(err)
			}
		}
		m.resume()
		m.wantState("a", registry.StateReady, true)
		if w.called("stop") != 0 || s.kept["a"].Drain != nil {
			t.Errorf("%d stops, kept %+v", w.called("stop"), s.kept["a"])
		}
	})
}

// stopping is a stop under way.
func stopping(st *systemd.Status) { st.ActiveState, st.SubState = "deactivating", "stop-sigterm" }

// stoppedByHand is systemctl stop.
func stoppedByHand(st *systemd.Status) {
	st.ActiveState, st.SubState, st.MainPID = "inactive", "dead", 0
}

// crashed is an engine that a signal ended; PID 1 waits before it starts it again.
func crashed(st *systemd.Status) {
	st.ActiveState, st.SubState, st.Result, st.MainPID = "activating", "auto-restart", "signal", 0
	st.ExecMainCode, st.ExecMainStatus = cldKilled, 11
}
