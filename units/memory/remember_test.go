package memory

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// countedModels counts how often a file is read.
type countedModels struct{ n int }

func (c *countedModels) Usage(ctx context.Context, paths []string, o run) (usage, error) {
	c.n++
	return parser{}.Usage(ctx, paths, o)
}

func TestFilesAreReadOnce(t *testing.T) {
	model, counted := tiny(t, 0), &countedModels{}
	e := New(nil, nil)
	e.models = counted
	get := func(p pool.Pool, targets []devices.Target) {
		t.Helper()
		p.Engine = engine.LlamaCpp
		if _, err := e.Estimate(t.Context(), p, model, "1", targets); err != nil {
			t.Fatal(err)
		}
	}
	get(pool.Pool{ID: "a"}, gpus(gib))
	get(pool.Pool{ID: "b", Port: 5}, gpus(gib))
	if counted.n != 1 {
		t.Errorf("read %d times for the same question, want once", counted.n)
	}
	get(pool.Pool{Ctx: 99}, gpus(gib))
	other := []devices.Target{{UUID: "GPU-z", Total: gib}}
	get(pool.Pool{}, other)
	if counted.n != 3 {
		t.Errorf("read %d times for three questions", counted.n)
	}
	if err := tinymodel.Write(model.Path, tinymodel.Options{Size: mib}); err != nil {
		t.Fatal(err)
	}
	get(pool.Pool{}, gpus(gib))
	if counted.n != 4 {
		t.Error("a changed model is not read again")
	}
}

func TestLargestCtx(t *testing.T) {
	model := tiny(t, 0) // trained for 512
	p := pool.Pool{Engine: engine.LlamaCpp, Slots: 4}
	e := New(nil, nil)
	within := func(bytes uint64) func(Need) bool {
		return func(n Need) bool { return part(n, PartKV, "GPU-a") <= bytes }
	}
	perToken := uint64(2 * 64 * 2 * 2)
	for name, c := range map[string]struct {
		pool pool.Pool
		room func(Need) bool
		want int
	}{
		"as_long_as_trained":       {p, within(gib), 512},
		"half_of_it":               {p, within(4 * 300 * perToken), 256},
		"not_even_the_shortest":    {p, within(0), 0},
		"an_engine_that_takes_all": {pool.Pool{Engine: engine.VLLM}, within(gib), 0},
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := e.LargestCtx(t.Context(), c.pool, model, gpus(gib), c.room); err != nil || got != c.want {
				t.Errorf("LargestCtx = %d, %v; want %d", got, err, c.want)
			}
		})
	}
}

// heldModels keeps every reader until it is let go.
type heldModels struct {
	mu  sync.Mutex
	n   int
	let chan struct{}
}

func (h *heldModels) Usage(context.Context, []string, run) (usage, error) {
	h.mu.Lock()
	h.n++
	h.mu.Unlock()
	<-h.let
	return usage{Host: deviceUsage{Weights: gib}}, nil
}

// TestManyAsk says what happens when many pools are looked at together, as when a host boots.
func TestManyAsk(t *testing.T) {
	model := tiny(t, 0)
	ask := func(ctx context.Context, e *Estimator, ctxLength int) (Need, error) {
		return e.Estimate(ctx, pool.Pool{Engine: engine.LlamaCpp, Ctx: ctxLength}, model, "", nil)
	}
	cases := []struct {
		name string
		run  func(t *testing.T, e *Estimator, h *heldModels)
	}{
		{"the_same_question_is_answered_once", func(t *testing.T, e *Estimator, h *heldModels) {
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() {
					if need, err := ask(t.Context(), e, 1); err != nil || need.Host != gib {
						t.Errorf("%+v, %v", need, err)
					}
				})
			}
			synctest.Wait()
			close(h.let)
			group.Wait()
			if h.n != 1 {
				t.Errorf("read %d times", h.n)
			}
		}},
		{"few_files_are_read_at_a_time", func(t *testing.T, e *Estimator, h *heldModels) {
			var group sync.WaitGroup
			for i := range 20 {
				group.Go(func() { _, _ = ask(t.Context(), e, i+1) })
			}
			synctest.Wait()
			if h.n != maxTurns {
				t.Errorf("%d are read at a time, want %d", h.n, maxTurns)
			}
			close(h.let)
			group.Wait()
		}},
		{"files_that_hang_do_not_keep_the_others", func(t *testing.T, e *Estimator, h *heldModels) {
			var group sync.WaitGroup
			for i := range maxTurns {
				group.Go(func() { _, _ = ask(t.Context(), e, i+1) })
			}
			synctest.Wait()
			group.Go(func() { _, _ = ask(t.Context(), e, 99) })
			time.Sleep(turnPause)
			synctest.Wait()
			if h.n != maxTurns+1 {
				t.Errorf("%d are read, want the third too", h.n)
			}
			close(h.let)
			group.Wait()
		}},
		{"one_who_waits_may_be_called_off", func(t *testing.T, e *Estimator, h *heldModels) {
			var group sync.WaitGroup
			group.Go(func() { _, _ = ask(t.Context(), e, 1) })
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			group.Go(func() {
				if _, err := ask(ctx, e, 1); !errors.Is(err, context.Canceled) {
					t.Errorf("err = %v", err)
				}
			})
			synctest.Wait()
			cancel()
			synctest.Wait()
			close(h.let)
			group.Wait()
		}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &heldModels{let: make(chan struct{})}
				e := New(nil, nil)
				e.models = h
				c.run(t, e, h)
			})
		})
	}
}
