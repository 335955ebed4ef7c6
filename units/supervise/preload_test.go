package supervise

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// outcomes counts how preloads end.
type outcomes struct {
	noObserver
	mu  sync.Mutex
	all []string
}

func (o *outcomes) Preloaded(outcome string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all = append(o.all, outcome)
}

func (o *outcomes) want(t *testing.T, want ...string) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if !slices.Equal(o.all, want) {
		t.Errorf("outcomes %q, want %q", o.all, want)
	}
}

// preloader is a manager that takes preloads, with one pool of a file, f.
type preloader struct {
	*manager
	shelf *shelf
	held  *held
	ended *outcomes
}

// asFile is a configuration with pools of files, under which a preload is the pool of its model.
func asFile(p ...pool.Pool) Desired {
	return Desired{Pools: p, Preload: func(id string, ask pool.Preload) (pool.Pool, error) {
		if ask.Host == "wrong" {
			return pool.Pool{}, registry.Fail(registry.CodeInvalidParams, "host is wrong", "")
		}
		return llama(id, func(p *pool.Pool) {
			p.Source, p.Model, p.Port = pool.SourcePreload, pool.Model("file:"+ask.Model), ask.Port
		}), nil
	}}
}

func preloads(t *testing.T, w *world, d Desired) *preloader {
	p := &preloader{shelf: &shelf{kept: make(map[string]keep.Intent)}, held: &held{}}
	p.again(t, w, d)
	return p
}

// again is another manager, with what the former one had written down.
func (p *preloader) again(t *testing.T, w *world, d Desired) {
	p.ended = &outcomes{}
	p.manager = w.manage(t, d, with(p.shelf, p.held), func(o *Options) { o.Observer = p.ended })
}

// ask sends a request, and returns where its answer comes.
func (p *preloader) ask(id string, change ...func(*PreloadRequest)) <-chan error {
	return p.askFor(p.t.Context(), id, change...)
}

func (p *preloader) askFor(ctx context.Context, id string, change ...func(*PreloadRequest)) <-chan error {
	ask := PreloadRequest{Ask: pool.Preload{Model: "/srv/a.gguf"}, Within: time.Minute, By: "uid:7"}
	for _, c := range change {
		c(&ask)
	}
	answer := make(chan error, 1)
	go func() { answer <- p.s.Preload(ctx, id, ask) }()
	synctest.Wait()
	return answer
}

// waits fails the test if there is an answer.
func waits(t *testing.T, answer <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-answer:
		t.Fatalf("answered already: %v", err)
	default:
	}
}

// answered wants an answer now, with that code; "": none.
func answered(t *testing.T, answer <-chan error, code registry.Code, says string) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-answer:
		var f *registry.Failure
		switch {
		case code == "" && err == nil:
		case !errors.As(err, &f) || f.Code != code || !strings.Contains(f.Message, says):
			t.Fatalf("%v, want %q %q", err, code, says)
		}
	default:
		t.Fatal("no answer")
	}
}

func (p *preloader) gone(id string) {
	p.t.Helper()
	synctest.Wait()
	if is, ok := p.reg.Pool(id); ok {
		p.t.Fatalf("pool %s is %s, %v", id, is.State, is.LastError)
	}
	if kept := p.shelf.of(id); !kept.Empty() {
		p.t.Errorf("written down: %+v", kept)
	}
}

func unloads(t *testing.T, p *preloader, id string) {
	t.Helper()
	if err := p.s.Unload(t.Context(), id, "uid:8"); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func TestPreload(t *testing.T) {
	scenario(t, "answers_when_it_is_ready_and_lives_until_it_is_removed", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile(llama("f")))
		answer := p.ask("a")
		waits(t, answer)
		w.passGate(unitOf("a"))
		answered(t, answer, "", "")
		p.wantState("a", registry.StateReady, true)
		if is, f := p.pool("a"), p.pool("f"); is.Source != registry.SourcePreload ||
			f.Source != registry.SourceFile || !is.Wanted {
			t.Errorf("sources %q, %q", is.Source, f.Source)
		}
		p.apply(asFile(llama("f")))
		time.Sleep(time.Hour)
		p.wantState("a", registry.StateReady, true)
		if kept := p.shelf.of("a").Preload; kept == nil || !kept.Ready || kept.By != "uid:7" || kept.Boot != "this" {
			t.Errorf("written down: %+v", kept)
		}
		unloads(t, p, "a")
		time.Sleep(time.Second)
		p.gone("a")
	})
	scenario(t, "a_caller_that_leaves_changes_nothing", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		ctx, leave := context.WithCancel(t.Context())
		answer := p.askFor(ctx, "a")
		leave()
		if err := <-answer; !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		p.ended.want(t, PreloadReady)
	})
	scenario(t, "the_same_request_is_about_the_same_pool", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		first, second := p.ask("a"), p.ask("a", func(r *PreloadRequest) { r.By, r.Within = "uid:9", time.Hour })
		waits(t, first)
		waits(t, second)
		w.passGate(unitOf("a"))
		answered(t, first, "", "")
		answered(t, second, "", "")
		answered(t, p.ask("a"), "", "")
		p.ended.want(t, PreloadSame, PreloadReady, PreloadSame)
		if n := w.called("start "); n != 1 {
			t.Errorf("%d starts", n)
		}
	})
	scenario(t, "requests_that_conflict", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile(llama("f", func(p *pool.Pool) { p.Port = 9000 })))
		p.ask("a")
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		answered(t, p.ask("a", func(r *PreloadRequest) { r.Ask.Model = "/srv/b.gguf" }), registry.CodePoolExists,
			"another request")
		answered(t, p.ask("f"), registry.CodePoolFromFile, "pool f")
		answered(t, p.ask("b", func(r *PreloadRequest) { r.Ask.Port = 9000 }), registry.CodePortInUse, "9000")
		answered(t, p.ask("b", func(r *PreloadRequest) { r.Ask.Host = "wrong" }), registry.CodeInvalidParams, "host")
		p.drain(time.Minute)
		answered(t, p.ask("a"), registry.CodePoolExists, "drained")
		p.ended.want(t, PreloadReady, PreloadConflict, PreloadConflict, PreloadConflict, PreloadInvalid,
			PreloadConflict)
		p.gone("b")
	})
	scenario(t, "there_is_a_bound", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		for i := range maxPreloads {
			p.s.post(func() { p.s.entry("p" + strings.Repeat("x", i)).intent.Preload = &keep.Preload{} })
		}
		answered(t, p.ask("a"), registry.CodePolicyDenied, "128")
	})
	scenario(t, "one_that_cannot_be_saved_does_not_begin", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		p.shelf.fails(registry.Fail(registry.CodeStateNotSaved, "the disk is full", ""))
		answered(t, p.ask("a"), registry.CodeStateNotSaved, "full")
		p.gone("a")
		p.ended.want(t, PreloadNotSaved)
		if n := w.called("start "); n != 0 {
			t.Errorf("%d starts", n)
		}
	})
}

// TestPreloadFails: one that does not become ready is removed, and the answer comes after that.
func TestPreloadFails(t *testing.T) {
	scenario(t, "preparing", func(t *testing.T, w *world) {
		w.stage = func(pool.Pool) error { return registry.Fail(registry.CodeModelNotFound, "no such file", "copy it") }
		p := preloads(t, w, asFile())
		answered(t, p.ask("a"), registry.CodeModelNotFound, "no such file")
		p.gone("a")
		p.ended.want(t, PreloadFailed)
		if got := p.causes(registry.KindPreload); got != "asked for by uid:7; given up: no such file" {
			t.Errorf("events: %s", got)
		}
	})
	scenario(t, "crashing_while_it_loads", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		answer := p.ask("a")
		waits(t, answer)
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(time.Second)
		answered(t, answer, registry.CodeEngineCrashed, "status 1")
		w.with(func() {
			if w.units[unitOf("a")] != nil {
				t.Errorf("the unit is still there: %+v", w.units[unitOf("a")])
			}
		})
		p.gone("a")
	})
	scenario(t, "in_time", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		answer := p.ask("a")
		time.Sleep(59 * time.Second)
		waits(t, answer)
		time.Sleep(2 * time.Second)
		answered(t, answer, registry.CodeEngineStartTimeout, "1m0s")
		p.gone("a")
		p.ended.want(t, PreloadTimeout)
	})
	scenario(t, "with_no_caller_left", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		ctx, leave := context.WithCancel(t.Context())
		p.askFor(ctx, "a")
		leave()
		time.Sleep(2 * time.Minute)
		p.gone("a")
	})
	scenario(t, "under_another_manager", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		p.ask("a")
		p.kill()
		p.again(t, w, asFile())
		p.wantState("a", registry.StateStarting, false)
		answer := p.ask("a")
		time.Sleep(2 * time.Minute)
		answered(t, answer, registry.CodeEngineStartTimeout, "not ready within")
		p.gone("a")
	})
	scenario(t, "and_may_be_asked_for_again", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		answer := p.ask("a")
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(time.Second)
		answered(t, answer, registry.CodeEngineCrashed, "")
		answer = p.ask("a", func(r *PreloadRequest) { r.Ask.Model = "/srv/b.gguf" })
		w.passGate(unitOf("a"))
		answered(t, answer, "", "")
	})
}
