package supervise

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// slowShelf is a disk whose first write takes until it is reported.
type slowShelf struct {
	shelf
	once sync.Once
	go1  chan struct{}
}

func (s *slowShelf) Put(id string, i keep.Intent) error {
	s.once.Do(func() { <-s.go1 })
	return s.shelf.Put(id, i)
}

// TestWishesAreTakenOneAfterAnother: the second is made of what the first has left, and not of what
// was before both.
func TestWishesAreTakenOneAfterAnother(t *testing.T) {
	scenario(t, "a_drain_and_a_nearer_one", func(t *testing.T, w *world) {
		version := llama("a")
		disk := &slowShelf{shelf: shelf{kept: make(map[string]keep.Intent)}, go1: make(chan struct{})}
		h := &held{}
		m := w.manage(t, pools(version), func(o *Options) {
			o.Keep, o.Leases, o.Intents = disk, h, map[string]keep.Intent{"a": {Current: &version}}
		})
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		h.n.Store(1)
		answers := make(chan error, 2)
		for _, deadline := range []time.Duration{time.Hour, 10 * time.Second} {
			go func() { answers <- m.s.Drain(t.Context(), "a", deadline, "uid:0") }()
			synctest.Wait()
		}
		close(disk.go1)
		for range 2 {
			if err := <-answers; err != nil {
				t.Error(err)
			}
		}
		if d := disk.kept["a"].Drain; d == nil || m.s.o.Clock.Left(d.Deadline) > 10*time.Second {
			t.Errorf("written down: %+v", d)
		}
	})
}

// counts is an observer of breakers and storms.
type counts struct {
	noObserver
	mu       sync.Mutex
	breakers []string
	storms   int
}

func (c *counts) Breaker(_ registry.Pool, state string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakers = append(c.breakers, state)
}

func (c *counts) Storm(registry.Pool, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.storms++
}

func TestRestartsAreObserved(t *testing.T) {
	scenario(t, "breaker", func(t *testing.T, w *world) {
		c := &counts{}
		w.manage(t, pools(llama("a", failing)), withNotes(notes{}), func(o *Options) { o.Observer = c })
		w.passGate(unitOf("a"))
		for i := range 3 {
			w.crash()
			if i < 2 {
				w.restarted()
			}
		}
		time.Sleep(70 * time.Second)
		w.passGate(unitOf("a"))
		time.Sleep(40 * time.Second)
		synctest.Wait()
		c.mu.Lock()
		defer c.mu.Unlock()
		if want := []string{"open", "half-open", "closed"}; !slices.Equal(c.breakers, want) {
			t.Errorf("breaker %v, want %v", c.breakers, want)
		}
	})
	scenario(t, "storm", func(t *testing.T, w *world) {
		c := &counts{}
		stormy := func(p *pool.Pool) {
			p.Restart.StormRestarts, p.Restart.StormWindow, p.Restart.BreakerFailures = 3, time.Minute, 100
		}
		m := w.manage(t, pools(llama("a", stormy)), withNotes(notes{}), func(o *Options) { o.Observer = c })
		w.passGate(unitOf("a"))
		for i := range 4 {
			w.crash()
			if i < 3 {
				w.restarted()
			}
		}
		m.wantState("a", registry.StateBackoff, false)
		c.mu.Lock()
		defer c.mu.Unlock()
		if left := time.Until(m.pool("a").NextStart); c.storms != 1 || left < 30*time.Second || w.called("stop") != 1 {
			t.Errorf("%d storms, next start in %s, calls %v", c.storms, left, w.calls)
		}
	})
}

// TestBackoffIsStretched: a PID 1 whose delay does not grow is kept from starting too early.
func TestBackoffIsStretched(t *testing.T) {
	scenario(t, "the_second_restart_waits_two_seconds", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a")), withNotes(notes{}))
		w.passGate(unitOf("a"))
		crash := func() {
			w.change(unitOf("a"), func(st *systemd.Status) {
				crashed(st)
				st.RestartUSec, st.StateChange = 1_000_000, time.Now()
			})
			time.Sleep(600 * time.Millisecond)
			synctest.Wait()
		}
		crash()
		if w.called("stop") != 0 {
			t.Errorf("the first delay is PID 1's: %v", w.calls)
		}
		w.restarted()
		crash() // two seconds are due, PID 1 waits one
		m.wantState("a", registry.StateBackoff, false)
		if w.called("stop") != 1 || w.called("start") != 1 {
			t.Errorf("calls: %v", w.calls)
		}
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateStarting, false)
	})
}

func TestResetStartsWhatWaits(t *testing.T) {
	scenario(t, "in_the_backoff_of_pid_1", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		w.crash()
		m.wantState("a", registry.StateBackoff, false)
		if err := m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		m.wantState("a", registry.StateStarting, false)
		if w.called("stop-waiting") != 1 || w.called("clear") != 1 || w.called("start") != 2 {
			t.Errorf("calls %v, want a new unit, for which PID 1 has counted nothing", w.calls)
		}
	})
	scenario(t, "while_pid_1_starts_it", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		w.crash()
		m.wantState("a", registry.StateBackoff, false)
		w.with(func() { w.units[unitOf("a")].JobID = 7 }) // queued, and not signalled yet
		if err := m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		w.change(unitOf("a"), func(st *systemd.Status) { st.JobID = 0 })
		w.restarted()
		m.wantState("a", registry.StateReady, true)
		if w.called("reset "+unitOf("a")) != 1 || w.called("start") != 1 {
			t.Errorf("calls %v, want the failures before the run to be forgotten by PID 1 too", w.calls)
		}
	})
}

func TestReloadIsRefusedByPolicy(t *testing.T) {
	scenario(t, "and_touches_nothing", func(t *testing.T, w *world) {
		d := pools(llama("a"))
		d.Refuse = func(p pool.Pool) *registry.Failure {
			if p.Model.Path() == "/srv/models/b.gguf" {
				return registry.Fail(registry.CodePolicyDenied, "not here", "use another")
			}
			return nil
		}
		s := &shelf{kept: make(map[string]keep.Intent)}
		m := w.manage(t, d, with(s, &held{}))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		err := m.s.Reload(t.Context(), "a", ReloadRequest{Model: "file:/srv/models/b.gguf", Deadline: -1})
		var f *registry.Failure
		if !errors.As(err, &f) || f.Code != registry.CodePolicyDenied || s.kept["a"].Reload != nil {
			t.Errorf("err %v, written down %+v", err, s.kept["a"])
		}
		m.wantServed("r0", "a.gguf")
	})
}

func TestExternalIsNeverKilled(t *testing.T) {
	scenario(t, "however_long_it_does_not_answer", func(t *testing.T, w *world) {
		p := elsewhere("a")
		p.Health.EscalateAfter = time.Minute
		m := w.manage(t, pools(p))
		m.wantState("a", registry.StateReady, true)
		w.ill(true)
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateUnhealthy, false)
		for _, call := range []string{"kill", "stop", "start"} {
			if w.called(call) != 0 {
				t.Errorf("an external engine got %s: %v", call, w.calls)
			}
		}
	})
}
