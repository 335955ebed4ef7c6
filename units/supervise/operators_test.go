package supervise

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// TestResumeOfWhatWasStoppedByHand: a resume is one start, and no wish for ever.
func TestResumeOfWhatWasStoppedByHand(t *testing.T) {
	scenario(t, "the_next_stop_by_hand_is_respected", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		w.change(unitOf("a"), stoppedByHand)
		m.wantState("a", registry.StateStopped, false)
		m.resume()
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		started := w.called("start")
		w.change(unitOf("a"), stoppedByHand)
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateStopped, false)
		if w.called("start") != started {
			t.Errorf("it was started against the operator's wish: %v", w.calls)
		}
	})
	scenario(t, "one_that_cannot_be_written_down_starts_nothing", func(t *testing.T, w *world) {
		m, s, _ := drainable(t, w)
		w.change(unitOf("a"), stoppedByHand)
		m.wantState("a", registry.StateStopped, false)
		s.fails(registry.Fail(registry.CodeStateNotSaved, "no space left on device", "make room"))
		if err := m.s.Resume(t.Context(), "a", "uid:0"); err == nil {
			t.Error("the resume is not written down, and was answered")
		}
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateStopped, false)
	})
}

func TestRestartOutlives(t *testing.T) {
	restarting := func(t *testing.T, w *world) (*manager, *shelf, *held) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		if err := m.s.Restart(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		m.wantState("a", registry.StateDraining, false)
		return m, s, h
	}
	scenario(t, "the_manager_in_the_middle_of_its_drain", func(t *testing.T, w *world) {
		m, s, h := restarting(t, w)
		m.kill()
		m = w.manage(t, pools(llama("a")), with(s, h))
		m.wantState("a", registry.StateDraining, false)
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStarting, false)
		if w.called("stop") != 1 || s.kept["a"].Drain != nil {
			t.Errorf("calls %v, written down %+v", w.calls, s.kept["a"].Drain)
		}
	})
	scenario(t, "a_disk_that_is_full_when_it_has_stopped", func(t *testing.T, w *world) {
		m, s, h := restarting(t, w)
		s.fails(registry.Fail(registry.CodeStateNotSaved, "no space left on device", "make room"))
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		s.fails(nil)
		time.Sleep(saveAgain + time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
}

// TestDeadlineOfWhatIsIdle: what no one holds is not cut, however near the deadline is.
func TestDeadlineOfWhatIsIdle(t *testing.T) {
	scenario(t, "a_drain_without_a_wait", func(t *testing.T, w *world) {
		m, s, _ := drainable(t, w)
		m.drain(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		if p := m.pool("a"); p.LastError != nil || s.kept["a"].Drain.Timeout != "" || w.called("kill") != 0 {
			t.Errorf("last_error %v, written down %+v, calls %v", p.LastError, s.kept["a"].Drain, w.calls)
		}
	})
	scenario(t, "a_deadline_that_passed_without_a_manager", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		m.drain(time.Minute)
		m.kill()
		h.n.Store(0)
		time.Sleep(time.Hour)
		m = w.manage(t, pools(llama("a")), with(s, h))
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		if p := m.pool("a"); p.LastError != nil {
			t.Errorf("last_error %v", p.LastError)
		}
	})
	scenario(t, "a_drain_without_a_wait_of_an_engine_that_works", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		w.working(2)
		m.drain(0)
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateStopped, false)
		m.wantCode("a", registry.CodeDrainTimeout)
	})
	scenario(t, "a_reload_without_a_wait", func(t *testing.T, w *world) {
		m, _, _ := drainable(t, w)
		m.reload("b.gguf", 0)
		w.passGate(besideOf("a"))
		time.Sleep(time.Second)
		m.wantServed("r0b", "b.gguf")
	})
}

// TestRemovedWhileItIsWrittenDown: a pool whose file goes while a wish for it is being written down
// leaves nothing behind.
func TestRemovedWhileItIsWrittenDown(t *testing.T) {
	scenario(t, "resume", func(t *testing.T, w *world) {
		m, s, _ := drainable(t, w)
		m.drain(time.Minute)
		m.wantState("a", registry.StateStopped, false)
		slow := make(chan struct{})
		s.then = func() { s.then = nil; <-slow }
		answered := make(chan error, 1)
		go func() { answered <- m.s.Resume(t.Context(), "a", "uid:0") }()
		synctest.Wait()
		m.apply(pools())
		close(slow)
		<-answered
		synctest.Wait()
		if _, known := m.reg.Pool("a"); known || w.called("start") != 1 {
			t.Errorf("the pool is known=%t, calls %v", known, w.calls)
		}
		if kept := s.kept["a"]; !kept.Empty() {
			t.Errorf("written down: %+v", kept)
		}
	})
}

func TestExternalDrainOutlivesTheManager(t *testing.T) {
	scenario(t, "leases_are_held_to_the_deadline", func(t *testing.T, w *world) {
		s, h := &shelf{kept: make(map[string]keep.Intent)}, &held{}
		m := w.manage(t, pools(elsewhere("a")), with(s, h))
		m.wantState("a", registry.StateReady, true)
		h.n.Store(2)
		m.drain(time.Minute)
		m.kill()
		m = w.manage(t, pools(elsewhere("a")), with(s, h))
		m.wantState("a", registry.StateDraining, false)
		time.Sleep(61 * time.Second)
		m.wantState("a", registry.StateStopped, false)
		m.wantCode("a", registry.CodeDrainTimeout)
		if h.cuts.Load() != 1 {
			t.Errorf("%d cuts", h.cuts.Load())
		}
	})
}

// stuck is a disk that takes its time, and then refuses, once.
type stuck struct{ until chan struct{} }

func (s *stuck) Put(string, keep.Intent) error {
	if _, open := <-s.until; !open {
		return nil
	}
	return registry.Fail(registry.CodeStateNotSaved, "no space left on device", "make room")
}

// TestNothingIsMissedWhileADiskRefuses: what happens while a wish is being written down is acted
// upon, written or not.
func TestNothingIsMissedWhileADiskRefuses(t *testing.T) {
	refused := func(t *testing.T, w *world, meanwhile func(m *manager)) *manager {
		disk := &stuck{make(chan struct{})}
		version := llama("a")
		m := w.manage(t, pools(version), func(o *Options) {
			o.Keep, o.Intents = disk, map[string]keep.Intent{"a": {Current: &version}}
		})
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		answered := make(chan error, 1)
		go func() { answered <- m.s.Drain(t.Context(), "a", time.Minute, "uid:0") }()
		synctest.Wait()
		meanwhile(m)
		synctest.Wait()
		disk.until <- struct{}{}
		close(disk.until)
		if err := <-answered; err == nil {
			t.Error("the drain is not written down, and was answered")
		}
		synctest.Wait()
		return m
	}
	scenario(t, "a_unit_that_goes_is_started_again", func(t *testing.T, w *world) {
		m := refused(t, w, func(*manager) {
			if err := w.Clear(t.Context(), unitOf("a")); err != nil { // someone has PID 1 forget it
				t.Fatal(err)
			}
		})
		m.wantState("a", registry.StateStarting, false)
	})
	scenario(t, "a_file_that_changes_is_taken_up", func(t *testing.T, w *world) {
		m := refused(t, w, func(m *manager) { m.apply(pools(llama("a", model("b.gguf")))) })
		m.wantState("a", registry.StateReady, true)
		if w.called("start "+besideOf("a")) != 1 {
			t.Errorf("calls: %v", w.calls)
		}
	})
}

// TestStoppedByForce: an engine that does not end at SIGTERM has a second more at a deadline, and
// its own stop timeout elsewhere.
func TestStoppedByForce(t *testing.T) {
	for _, c := range []struct {
		name  string
		held  int64
		kills int
	}{{"at_the_deadline", 1, 1}, {"not_where_nothing_was_held", 0, 0}} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, _, h := drainable(t, w)
			w.with(func() { w.stubborn = make(chan struct{}) })
			h.n.Store(c.held)
			m.drain(10 * time.Second)
			time.Sleep(10*time.Second + forceAfter/2)
			m.wantState("a", registry.StateStopping, false)
			if n := w.called("kill"); n != 0 {
				t.Errorf("%d kills before it had its second", n)
			}
			time.Sleep(forceAfter)
			synctest.Wait()
			if n := w.called("kill"); n != c.kills {
				t.Errorf("%d kills, want %d: %v", n, c.kills, w.calls)
			}
		})
	}
}

// TestTwoOperators: of two wishes for one pool, the one that keeps it stopped holds until a resume.
func TestTwoOperators(t *testing.T) {
	restart := func(m *manager) {
		if err := m.s.Restart(m.t.Context(), "a", "uid:1"); err != nil {
			m.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		asks func(m *manager)
	}{
		{"drain_after_restart_stays_stopped", func(m *manager) { restart(m); m.drain(time.Minute) }},
		{"restart_after_drain_stays_stopped", func(m *manager) { m.drain(time.Minute); restart(m) }},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, _, h := drainable(t, w)
			h.n.Store(1)
			c.asks(m)
			h.n.Store(0)
			time.Sleep(time.Hour)
			m.wantState("a", registry.StateStopped, false)
		})
	}
	scenario(t, "drain_cancels_a_reload_and_blames_nobody", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		m.reload("b.gguf", time.Minute)
		m.drain(time.Minute)
		if rec := s.kept["a"].Reload; rec != nil && rec.Reason != rollout.Cancelled {
			t.Errorf("the reload goes on: %+v", rec)
		}
		h.n.Store(0)
		time.Sleep(time.Second)
		m.wantState("a", registry.StateStopped, false)
		if k := s.kept["a"]; k.Rejected != nil || k.Reload != nil || k.Override != nil {
			t.Errorf("written down: %+v", k)
		}
	})
}

// TestAdoptionWaitsForItsGraceAndNoLonger: one engine that does not answer keeps no one from what
// is known of the others.
func TestAdoptionWaitsForItsGraceAndNoLonger(t *testing.T) {
	scenario(t, "an_engine_that_does_not_answer", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		m.kill()
		w.with(func() { w.mute[endpoint] = true })
		m = w.manage(t, pools(llama("a")), with(s, h))
		time.Sleep(adoptionGrace / 2)
		if m.s.isAdopted() {
			t.Error("it is adopted before it was probed")
		}
		time.Sleep(adoptionGrace)
		synctest.Wait()
		if !m.s.isAdopted() {
			t.Error("it is not adopted after the grace")
		}
	})
}

// TestDrainedAnewAtTheDeadline: what is asked while a disk is slow counts, and not the deadline of
// a drain that was taken back.
func TestDrainedAnewAtTheDeadline(t *testing.T) {
	scenario(t, "on_a_slow_disk", func(t *testing.T, w *world) {
		m, s, h := drainable(t, w)
		h.n.Store(1)
		slow := make(chan struct{})
		s.then = func() {
			select {
			case <-slow:
				time.Sleep(2 * time.Second)
			default:
			}
		}
		m.drain(10 * time.Second)
		close(slow)
		time.Sleep(9 * time.Second)
		done := make(chan error, 2)
		go func() { done <- m.s.Resume(t.Context(), "a", "uid:0") }()
		synctest.Wait()
		go func() { done <- m.s.Drain(t.Context(), "a", time.Hour, "uid:0") }()
		for range 2 {
			if err := <-done; err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateDraining, false)
		if d := s.kept["a"].Drain; h.cuts.Load() != 0 || d == nil || d.Timeout != "" {
			t.Errorf("%d cuts, written down: %+v", h.cuts.Load(), d)
		}
	})
}
