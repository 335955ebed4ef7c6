package supervise

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// TestThresholds: only failures in a row take ready away, and only successes in a row give it back;
// the first after the gate is enough.
func TestThresholds(t *testing.T) {
	// answers has the probes of a pool end one after the other as a word says: x fails, o succeeds.
	answers := func(w *world, word string) {
		for _, c := range word {
			w.ill(c == 'x')
			time.Sleep(5 * time.Second)
			synctest.Wait()
		}
	}
	twice := func(p *pool.Pool) { p.Health.Failures, p.Health.Successes = 3, 2 }
	for _, c := range []struct {
		answers string
		ready   bool
	}{
		{"xx", true},
		{"xxoxxoxxo", true},
		{"xxx", false},
		{"xxxo", false},
		{"xxxoxox", false},
		{"xxxoo", true},
		{"xxxooxx", true},
	} {
		scenario(t, c.answers, func(t *testing.T, w *world) {
			m := w.manage(t, pools(llama("a", twice)))
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			answers(w, "o") // the first wait is shorter, by the phase
			answers(w, c.answers)
			if p := m.pool("a"); p.Ready != c.ready || w.called("kill") != 0 || w.called("stop") != 0 {
				t.Errorf("after %s ready is %t; calls %v", c.answers, p.Ready, w.calls)
			}
		})
	}
}

// TestPhases: engines that became ready together are not asked together.
func TestPhases(t *testing.T) {
	const many = 30
	scenario(t, "of_probes", func(t *testing.T, w *world) {
		var d Desired
		for i := range many {
			d.Pools = append(d.Pools, withGeneration(fmt.Sprintf("p%02d", i), func(p *pool.Pool) {
				p.Health.Interval, p.Health.GenerateInterval = 40*time.Second, 0
			}))
		}
		w.manage(t, d)
		for _, p := range d.Pools {
			w.passGate(unitOf(p.ID))
		}
		time.Sleep(time.Second)
		w.with(func() { w.probes = nil })
		time.Sleep(41 * time.Second)
		at := map[time.Time]int{}
		w.with(func() {
			if len(w.probes) < many {
				t.Errorf("%d of %d engines were asked within an interval", len(w.probes), many)
			}
			for _, p := range w.probes {
				at[p.at]++
			}
		})
		if len(at) < 5 {
			t.Errorf("all were asked at %d moments: %v", len(at), at)
		}
	})
	scenario(t, "of_generations", func(t *testing.T, w *world) {
		d := pools(withGeneration("a"), withGeneration("b"), withGeneration("c"), withGeneration("d"),
			withGeneration("e"), withGeneration("f"))
		w.manage(t, d)
		for _, p := range d.Pools {
			w.passGate(unitOf(p.ID))
		}
		first, moments := map[string]int{}, map[int]bool{}
		for second := range 70 {
			time.Sleep(time.Second)
			w.with(func() {
				for _, call := range w.calls {
					if strings.HasPrefix(call, "generate ") && first[call] == 0 {
						first[call] = second + 1
						moments[second] = true
					}
				}
			})
		}
		if len(first) != len(d.Pools) || len(moments) < 4 {
			t.Errorf("the first generations began in the seconds %v; want each engine asked, and not all at once",
				first)
		}
	})
}

func TestPhase(t *testing.T) {
	quarter := map[time.Duration]int{}
	for i := range 1000 {
		p := phase(fmt.Sprintf("%032d", i), time.Second)
		if p < 0 || p >= time.Second {
			t.Fatalf("%s is not within the span", p)
		}
		quarter[p/(250*time.Millisecond)]++
	}
	for q, n := range quarter {
		if n < 200 || n > 300 {
			t.Errorf("%d of 1000 are in quarter %d", n, q)
		}
	}
	if p := phase("a", 0); p != 0 {
		t.Errorf("without a span: %s", p)
	}
}

// TestNoAnswerIsADefectForAll: whatever an engine's answer does to who reads it, the manager and
// the other pools go on.
func TestNoAnswerIsADefectForAll(t *testing.T) {
	scenario(t, "about_its_progress", func(t *testing.T, w *world) {
		m := servingJudged(t, w)
		w.with(func() { w.progress = func() int { panic("a broken answer") } })
		time.Sleep(3 * time.Minute)
		m.wantState("a", registry.StateReady, true)
	})
	scenario(t, "about_its_slots", func(t *testing.T, w *world) {
		w.slotsDie = true
		m := w.manage(t, pools(llama("a")))
		w.passGate(unitOf("a"))
		time.Sleep(time.Minute)
		m.wantState("a", registry.StateUnhealthy, false)
		if f := m.pool("a").LastError; !strings.Contains(f.Message, "internal error") {
			t.Errorf("last_error %v", f)
		}
	})
}

// TestGenerationsInARow: a success between failed generations has them counted again from zero.
func TestGenerationsInARow(t *testing.T) {
	scenario(t, "one_that_fails_now_and_then_stays_ready", func(t *testing.T, w *world) {
		m := servingJudged(t, w, func(p *pool.Pool) { p.Health.GenerateTimeout = time.Second })
		for range 5 {
			n := w.called("generate")
			w.with(func() { w.generation = probe.Unanswered })
			for w.called("generate") == n {
				time.Sleep(time.Second)
			}
			w.with(func() { w.generation = probe.Generated })
			for w.called("generate") == n+1 {
				time.Sleep(time.Second)
			}
			synctest.Wait()
			m.wantState("a", registry.StateReady, true)
		}
	})
}

// TestSickWhileItsKeysChange: how long probes have failed counts again by the new keys, and nothing
// is restarted at once.
func TestSickWhileItsKeysChange(t *testing.T) {
	scenario(t, "escalate_after_counts_from_the_change", func(t *testing.T, w *world) {
		m := servingJudged(t, w)
		w.ill(true)
		time.Sleep(90 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
		m.apply(pools(withGeneration("a", func(p *pool.Pool) { p.Health.Interval = time.Second })))
		time.Sleep(100 * time.Second)
		if n := w.called("kill"); n != 0 {
			t.Errorf("%d kills 100 s after the change", n)
		}
		time.Sleep(30 * time.Second)
		if n := w.called("kill"); n != 1 {
			t.Errorf("%d kills 130 s after the change", n)
		}
	})
}

// TestGenerationOf: an engine that waits for idle connections keeps none of a generation's.
func TestGenerationOf(t *testing.T) {
	for kind, closes := range map[string]bool{engine.Triton: true, engine.LlamaCpp: false} {
		p := withGeneration("a", func(p *pool.Pool) {
			p.Engine, p.Health.GeneratePath, p.Health.GenerateBody = kind, "/v2/models/x/generate", `{"x":1}`
		})
		r := &replica{wish: wish{pool: p, known: true}}
		a, _ := r.adapter()
		if g := generationOf(endpoint, a, p); g.URL != endpoint+"/v2/models/x/generate" || g.Close != closes ||
			g.Timeout != 30*time.Second {
			t.Errorf("%s is asked %+v", kind, g)
		}
	}
}

// TestResetIsPID1sToo: after a reset the backoff and the start limit of PID 1 start again from
// zero, and the count of restarts stays.
func TestResetIsPID1sToo(t *testing.T) {
	scenario(t, "of_a_unit_that_it_has_restarted", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		for range 2 {
			w.crash()
			w.restarted()
		}
		if err := m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := m.pool("a"); w.called("reset "+unitOf("a")) != 1 || p.RestartCount != 2 || !p.Ready {
			t.Errorf("%d restarts, ready is %t, calls %v", p.RestartCount, p.Ready, w.calls)
		}
		w.crash()
		if p := m.pool("a"); p.Breaker != "closed" || p.RestartCount != 2 {
			t.Errorf("after one failure: breaker %s, %d restarts", p.Breaker, p.RestartCount)
		}
	})
	scenario(t, "not_of_one_that_it_never_restarted", func(t *testing.T, w *world) {
		m := serving(t, w)
		if err := m.s.Reset(t.Context(), "a", "uid:0"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if w.called("reset") != 0 {
			t.Errorf("calls %v", w.calls)
		}
	})
}

// TestHasFailed: why a version that is tried does not come up, for the reload that goes back from
// it.
func TestHasFailed(t *testing.T) {
	fail := func(c registry.Code) *registry.Failure { return registry.Fail(c, "x", "") }
	for _, c := range []struct {
		name string
		f    reconcile.Facts
		want registry.Code
	}{
		{"it_comes_up", reconcile.Facts{Unit: reconcile.Starting}, ""},
		{"refused", reconcile.Facts{Refusal: fail(registry.CodePolicyDenied)}, registry.CodePolicyDenied},
		{"not_staged", reconcile.Facts{Stage: reconcile.Failed, Failure: fail(registry.CodeModelNotFound)}, registry.CodeModelNotFound},
		{"its_gpu_is_lost", reconcile.Facts{Unit: reconcile.Starting, GPU: fail(registry.CodeGPUUnavailable)}, registry.CodeGPUUnavailable},
		{"too_little_memory", reconcile.Facts{Short: fail(registry.CodeInsufficientVRAM)}, registry.CodeInsufficientVRAM},
		{"it_crashed", reconcile.Facts{Unit: reconcile.Backoff, Crash: fail(registry.CodeEngineOOM)}, registry.CodeEngineOOM},
		{"it_ended_and_nobody_knows_why", reconcile.Facts{Unit: reconcile.Broken}, registry.CodeEngineCrashed},
		{"it_ended_by_itself", reconcile.Facts{Unit: reconcile.Exited}, registry.CodeEngineStartFailed},
		{"it_waits_for_its_turn", reconcile.Facts{Unit: reconcile.Exited, Role: reconcile.Standby}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got registry.Code
			if f := hasFailed(c.f); f != nil {
				got = f.Code
			}
			if got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestTrialThatEndsByItself: a trial that leaves with status 0 reported nothing of its engine; the
// next start is a trial again.
func TestTrialThatEndsByItself(t *testing.T) {
	scenario(t, "the_breaker_is_open_again", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)), withNotes(notes{}))
		w.passGate(unitOf("a"))
		threeFailures(w)
		time.Sleep(70 * time.Second)
		w.passGate(unitOf("a"))
		w.change(unitOf("a"), func(st *systemd.Status) {
			st.ActiveState, st.SubState, st.MainPID, st.Result = "inactive", "dead", 0, "success"
			st.ExecMainCode, st.EndedFirst = cldExited, true
		})
		synctest.Wait()
		m.wantState("a", registry.StateStopped, false)
		if b := m.pool("a").Breaker; b != "open" {
			t.Errorf("the breaker is %s", b)
		}
		time.Sleep(time.Hour)
		m.wantState("a", registry.StateStopped, false)
	})
}
