package provision

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// oracle answers after a second and counts how often it is asked, and at the same time.
type oracle struct {
	asked, now, most atomic.Int32
	err              error
}

func (o *oracle) answer(ctx context.Context) (string, error) {
	o.asked.Add(1)
	if n := o.now.Add(1); n > o.most.Load() {
		o.most.Store(n)
	}
	defer o.now.Add(-1)
	select {
	case <-time.After(time.Second):
		return "b1", o.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func TestQuestions(t *testing.T) {
	run := func(name string, f func(t *testing.T, q *questions, o *oracle)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, &questions{}, &oracle{}) })
		})
	}
	// callers asks eight times at once and waits for all.
	callers := func(t *testing.T, q *questions, o *oracle, want string, failure error) {
		t.Helper()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if got, err := q.ask(t.Context(), "llama", o.answer); got != want || !errors.Is(err, failure) {
					t.Errorf("%q, %v, want %q, %v", got, err, want, failure)
				}
			})
		}
		all.Wait()
	}
	run("asked_once_by_many_and_again_by_the_next", func(t *testing.T, q *questions, o *oracle) {
		callers(t, q, o, "b1", nil)
		if n := o.asked.Load(); n != 1 {
			t.Errorf("asked %d times", n)
		}
		callers(t, q, o, "b1", nil)
		if n := o.asked.Load(); n != 2 || len(q.asked) != 0 {
			t.Errorf("asked %d times, %d under way", n, len(q.asked))
		}
	})
	run("a_failure_is_shared_and_the_next_asks_again", func(t *testing.T, q *questions, o *oracle) {
		o.err = errors.New("no such file")
		callers(t, q, o, "b1", o.err)
		o.err = nil
		callers(t, q, o, "b1", nil)
		if n := o.asked.Load(); n != 2 {
			t.Errorf("asked %d times", n)
		}
	})
	run("other_things_are_asked_at_the_same_time", func(t *testing.T, q *questions, o *oracle) {
		var all sync.WaitGroup
		for _, key := range []string{"a", "b"} {
			all.Go(func() { _, _ = q.ask(t.Context(), key, o.answer) })
		}
		all.Wait()
		if o.most.Load() != 2 {
			t.Errorf("at most %d at the same time", o.most.Load())
		}
	})
	run("one_that_gives_up_fails_no_other", func(t *testing.T, q *questions, o *oracle) {
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() {
			if _, err := q.ask(ctx, "llama", o.answer); !errors.Is(err, context.Canceled) {
				t.Errorf("the one that gave up: %v", err)
			}
		})
		synctest.Wait() // it asks
		all.Go(func() { callers(t, q, o, "b1", nil) })
		time.Sleep(500 * time.Millisecond)
		cancel()
		all.Wait()
		if o.asked.Load() != 2 || o.most.Load() != 1 {
			t.Errorf("asked %d times, %d at once: want once more, by one of those that waited", o.asked.Load(),
				o.most.Load())
		}
	})
	run("one_that_waits_may_give_up", func(t *testing.T, q *questions, o *oracle) {
		var all sync.WaitGroup
		all.Go(func() { callers(t, q, o, "b1", nil) })
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		began := time.Now()
		if _, err := q.ask(ctx, "llama", o.answer); !errors.Is(err, context.DeadlineExceeded) ||
			time.Since(began) != 100*time.Millisecond {
			t.Errorf("%v after %s", err, time.Since(began))
		}
		all.Wait()
	})
	run("a_panic_lets_the_others_ask", func(t *testing.T, q *questions, o *oracle) {
		var all sync.WaitGroup
		all.Go(func() {
			defer func() { _ = recover() }()
			_, _ = q.ask(t.Context(), "llama", func(context.Context) (string, error) {
				time.Sleep(time.Second)
				panic("a defect")
			})
		})
		synctest.Wait()
		callers(t, q, o, "b1", nil)
		all.Wait()
	})
}

// slow is a unit in which an engine takes a second to print its version. A second one of that name
// is refused, as PID 1 does.
type slow struct {
	mu    sync.Mutex
	units map[string]bool
	asked int
}

func (s *slow) RunCapture(_ context.Context, unit string, _ []systemd.Property, _ int) ([]byte, systemd.Status, error) {
	s.mu.Lock()
	if s.units[unit] {
		s.mu.Unlock()
		return nil, systemd.Status{}, systemd.ErrUnitExists
	}
	s.units[unit] = true
	s.asked++
	s.mu.Unlock()
	time.Sleep(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.units, unit)
	return []byte("version: 8533 (1a2b3c4)\n"), systemd.Status{ExecMainCode: 1}, nil
}

// TestEightPoolsAskOnce: pools with one binary whose version is not known yet do not collide (field
// case 27).
func TestEightPoolsAskOnce(t *testing.T) {
	adapter, _ := engine.For(engine.LlamaCpp)
	d := newDisk(t)
	binary, store := d.file("e", elfHead, 0o755), d.store()
	s := &slow{units: make(map[string]bool)}
	pr := &Preparer{Store: store, Capture: s, Log: slog.New(slog.DiscardHandler)}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			p := pool.Pool{ID: "a", Engine: engine.LlamaCpp, Provisioning: pool.Provisioning{Binary: binary}}
			if got, err := pr.Prepare(t.Context(), p, adapter); err != nil || got.Version != "8533" {
				t.Errorf("Prepare = %+v, %v", got, err)
			}
		})
	}
	all.Wait()
	if s.asked != 1 {
		t.Errorf("asked %d times", s.asked)
	}
}
