package supervise

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestPreloadSurvives: what was ready is a pool as any other.
func TestPreloadSurvives(t *testing.T) {
	ready := func(t *testing.T, w *world, d Desired) *preloader {
		p := preloads(t, w, d)
		answer := p.ask("a")
		w.passGate(unitOf("a"))
		answered(t, answer, "", "")
		p.ended.want(t, PreloadReady)
		return p
	}
	scenario(t, "the_manager", func(t *testing.T, w *world) {
		p := ready(t, w, asFile(llama("f")))
		pid := p.pool("a").Replicas[0].PID
		p.kill()
		p.again(t, w, asFile(llama("f")))
		p.wantState("a", registry.StateReady, true)
		answered(t, p.ask("a"), "", "")
		if is := p.pool("a"); is.Replicas[0].PID != pid || is.Source != registry.SourcePreload ||
			w.called("stop ") != 0 {
			t.Errorf("process %d, was %d; source %q", is.Replicas[0].PID, pid, is.Source)
		}
	})
	scenario(t, "a_crash", func(t *testing.T, w *world) {
		p := ready(t, w, asFile())
		w.change(unitOf("a"), ends("exit-code", cldExited, 1))
		time.Sleep(time.Second)
		p.wantState("a", registry.StateBackoff, false)
		waits(t, p.ask("a"))
		p.ended.want(t, PreloadReady, PreloadSame)
	})
	scenario(t, "files_that_are_wrong", func(t *testing.T, w *world) {
		p := ready(t, w, asFile(llama("f")))
		broken := asFile(llama("f"))
		broken.Problems = []registry.Problem{bad(""), bad("a")}
		p.apply(broken)
		p.wantState("a", registry.StateReady, true)
		p.wantCode("a", registry.CodeConfigInvalid)
		p.kill()
		p.again(t, w, broken)
		p.wantState("a", registry.StateReady, true)
		p.apply(asFile(llama("f")))
		if is := p.pool("a"); is.LastError != nil || w.called("stop ") != 0 {
			t.Errorf("last_error %v, calls %q", is.LastError, w.calls)
		}
	})
	scenario(t, "a_host_that_cannot_be_read", func(t *testing.T, w *world) {
		p := ready(t, w, asFile())
		p.kill()
		p.again(t, w, Desired{HostInvalid: true})
		p.wantState("a", registry.StateReady, true)
		answered(t, p.ask("b"), registry.CodeConfigInvalid, "configuration")
		p.apply(asFile())
		p.wantState("a", registry.StateReady, true)
		if is := p.pool("a"); is.Source != registry.SourcePreload || w.called("stop ") != 0 {
			t.Errorf("source %q, calls %q", is.Source, w.calls)
		}
	})
	scenario(t, "defaults_that_no_longer_fit_it", func(t *testing.T, w *world) {
		p := ready(t, w, asFile())
		other := asFile()
		other.Preload = func(string, pool.Preload) (pool.Pool, error) {
			return pool.Pool{}, registry.Fail(registry.CodeInvalidParams, "env is wrong", "")
		}
		p.apply(other)
		p.wantState("a", registry.StateReady, true)
		p.wantCode("a", registry.CodeInvalidParams)
	})
	scenario(t, "not_a_policy_that_forbids_it", func(t *testing.T, w *world) {
		p := ready(t, w, asFile())
		other := asFile()
		other.Refuse = func(of pool.Pool) *registry.Failure {
			if !of.Preloaded() {
				return nil
			}
			return registry.Fail(registry.CodePolicyDenied, "no preloads", "")
		}
		p.apply(other)
		time.Sleep(time.Second)
		p.wantState("a", registry.StateRefused, false)
		answered(t, p.ask("b"), registry.CodePolicyDenied, "no preloads")
		p.apply(asFile())
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		p.apply(other)
		time.Sleep(time.Second)
		unloads(t, p, "a")
		p.gone("a")
	})
}

// TestPreloadBecomesAFile: a pool file of its id takes it over, with the engine that runs.
func TestPreloadBecomesAFile(t *testing.T) {
	scenario(t, "of_the_same_engine", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		p.ask("a", func(r *PreloadRequest) { r.Ask.Model = "/srv/models/a.gguf" })
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		p.apply(asFile(llama("a")))
		p.wantState("a", registry.StateReady, true)
		if is := p.pool("a"); is.Source != registry.SourceFile || p.shelf.of("a").Preload != nil ||
			w.called("start ") != 1 {
			t.Errorf("source %q, written down %+v, calls %q", is.Source, p.shelf.of("a").Preload, w.calls)
		}
		if err := p.s.Unload(t.Context(), "a", "uid:8"); err == nil || !strings.Contains(err.Error(),
			"POOL_FROM_FILE") {
			t.Errorf("removed: %v", err)
		}
		p.apply(asFile())
		time.Sleep(time.Second)
		p.gone("a")
	})
	scenario(t, "of_another_model_by_a_reload", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		p.ask("a", func(r *PreloadRequest) { r.Ask.Model = "/srv/models/old.gguf" })
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		p.apply(asFile(llama("a")))
		synctest.Wait()
		if is := p.pool("a"); is.Reload == nil || !is.Ready {
			t.Errorf("ready %t, reload %+v", is.Ready, is.Reload)
		}
	})
	scenario(t, "while_a_caller_waits", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		answer := p.ask("a")
		p.apply(asFile(llama("a")))
		answered(t, answer, registry.CodePoolFromFile, "")
		time.Sleep(time.Hour)
		if _, ok := p.reg.Pool("a"); !ok {
			t.Error("the pool of the file is gone")
		}
	})
}

// TestUnload: a removal drains first.
func TestUnload(t *testing.T) {
	scenario(t, "leases_may_finish", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		p.ask("a")
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		p.held.n.Store(1)
		unloads(t, p, "a")
		p.wantState("a", registry.StateDraining, false)
		unloads(t, p, "a") // again
		answered(t, p.ask("a"), registry.CodePoolExists, "being removed")
		p.held.n.Store(0)
		time.Sleep(time.Second)
		p.gone("a")
		if p.held.cuts.Load() != 0 {
			t.Error("leases were cut")
		}
	})
	scenario(t, "leases_are_cut_at_the_deadline", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		p.ask("a")
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		p.held.n.Store(2)
		unloads(t, p, "a")
		time.Sleep(29 * time.Second)
		p.wantState("a", registry.StateDraining, false)
		time.Sleep(3 * time.Second)
		p.gone("a")
		if p.held.cuts.Load() != 1 {
			t.Error("no lease was cut")
		}
	})
	scenario(t, "answers_callers_that_wait", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		answer := p.ask("a")
		unloads(t, p, "a")
		answered(t, answer, registry.CodePoolNotFound, "removed by uid:8")
		p.ended.want(t, PreloadRemoved)
	})
	scenario(t, "goes_on_under_another_manager", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile())
		p.ask("a")
		w.passGate(unitOf("a"))
		p.wantState("a", registry.StateReady, true)
		p.held.n.Store(1)
		unloads(t, p, "a")
		p.kill()
		p.again(t, w, asFile())
		time.Sleep(time.Minute)
		p.gone("a")
	})
	scenario(t, "that_is_refused", func(t *testing.T, w *world) {
		p := preloads(t, w, asFile(llama("f")))
		if err := p.s.Unload(t.Context(), "a", "uid:8"); !errors.Is(err, ErrNoSuchPool) {
			t.Errorf("unknown: %v", err)
		}
		var f *registry.Failure
		if err := p.s.Unload(t.Context(), "f", "uid:8"); !errors.As(err, &f) || f.Code != registry.CodePoolFromFile {
			t.Errorf("of a file: %v", err)
		}
		p.ask("a")
		p.shelf.fails(registry.Fail(registry.CodeStateNotSaved, "full", ""))
		if err := p.s.Unload(t.Context(), "a", "uid:8"); !errors.As(err, &f) || f.Code != registry.CodeStateNotSaved {
			t.Errorf("not saved: %v", err)
		}
		p.wantState("a", registry.StateStarting, false)
	})
}
