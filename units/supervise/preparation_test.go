package supervise

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// changedCtx is the pool a with another context length, which needs a new preparation.
func changedCtx(p *pool.Pool) { p.Ctx = 4096 }

// stagesForEver makes every later staging ignore that it is cancelled, as a read from a dead NFS
// mount does, until the test ends.
func (w *world) stagesForEver(t *testing.T) {
	dead := make(chan struct{})
	t.Cleanup(func() { close(dead) })
	w.with(func() { w.stage = func(pool.Pool) error { <-dead; return nil } })
}

// TestAStageThatHangs: whatever a new version's preparation does, the engine that serves is
// drained, stopped, killed and held back as if nothing was being prepared.
func TestAStageThatHangs(t *testing.T) {
	scenario(t, "a_drain_ends_at_its_deadline", func(t *testing.T, w *world) {
		m, _, h := drainable(t, w)
		w.stagesForEver(t)
		h.n.Store(1)
		m.apply(pools(llama("a", changedCtx)))
		m.wantState("a", registry.StateReady, true)
		m.drain(time.Second)
		m.wantState("a", registry.StateDraining, false)
		time.Sleep(time.Second + 10*time.Millisecond)
		m.wantState("a", registry.StateStopped, false)
		m.wantCode("a", registry.CodeDrainTimeout)
	})
	scenario(t, "a_removed_pool_is_stopped_and_forgotten", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.stagesForEver(t)
		m.apply(pools(llama("a", changedCtx)))
		m.apply(pools())
		time.Sleep(time.Second)
		synctest.Wait()
		if _, there := m.reg.Pool("a"); there || w.called("stop "+unitOf("a")) != 1 {
			t.Errorf("still there: %t, calls %v", there, w.calls)
		}
	})
	scenario(t, "an_engine_whose_probes_fail_for_too_long_is_killed", func(t *testing.T, w *world) {
		m := servingJudged(t, w)
		w.stagesForEver(t)
		m.apply(pools(withGeneration("a", changedCtx)))
		w.ill(true)
		time.Sleep(5 * time.Minute)
		if n := w.called("kill " + unitOf("a")); n == 0 {
			t.Errorf("never killed: %v", w.calls)
		}
	})
	scenario(t, "a_gpu_that_needs_a_reset_is_left", func(t *testing.T, w *world) {
		h := twoGPUs()
		m := onReadyGPU(t, w, h)
		w.stagesForEver(t)
		changed := onGPU("a", "0")
		changedCtx(&changed)
		m.apply(pools(changed))
		m.wantState("a", registry.StateReady, true)
		h.event(nvml.Event{Kind: nvml.EventXid, Device: gpu(0), Code: 95})
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateWaiting, false)
		if w.called("stop "+unitOf("a")) != 1 {
			t.Errorf("not stopped: %v", w.calls)
		}
	})
	scenario(t, "a_restart_that_is_too_early_is_held_back", func(t *testing.T, w *world) {
		m := w.manage(t, pools(llama("a", failing)))
		w.passGate(unitOf("a"))
		m.wantState("a", registry.StateReady, true)
		w.stagesForEver(t)
		m.apply(pools(llama("a", failing, changedCtx)))
		for i := range 3 {
			w.crash()
			if i < 2 {
				w.restarted()
			}
		}
		if w.called("stop-waiting "+unitOf("a")) == 0 {
			t.Errorf("PID 1's restart was not held back: %v", w.calls)
		}
	})
	scenario(t, "a_change_back_is_prepared_beside_it", func(t *testing.T, w *world) {
		m := serving(t, w)
		w.stagesForEver(t)
		m.apply(pools(llama("a", changedCtx)))
		w.with(func() { w.stage = nil })
		m.apply(pools(llama("a")))
		synctest.Wait()
		m.s.post(func() {
			if p := m.s.entries["a"].sorted()[0].prep; p.prepare != reconcile.Done {
				t.Errorf("stage %d, prepare %d: the former staging stands in the way", p.stage, p.prepare)
			}
		})
		m.wantState("a", registry.StateReady, true)
	})
}

// prepStep is one thing that may happen to a preparation.
type prepStep struct {
	name string
	do   func(p *preparation, try int)
}

var aFailure = registry.Fail(registry.CodeModelNotFound, "no such file", "")

var prepSteps = []prepStep{
	{"stage", func(p *preparation, _ int) { p.beginStage(func() {}) }},
	{"prepare", func(p *preparation, _ int) {
		if p.stage == reconcile.Done {
			p.beginPrepare(func() {})
		}
	}},
	{"result", func(p *preparation, try int) {
		switch {
		case !p.current(try):
		case p.stage == reconcile.Running:
			p.stageDone(pool.Staged{Path: "/srv/models/a.gguf"})
		default:
			p.done(readied{}, &render.Plan{SpecHash: "a-b"})
		}
	}},
	{"failure", func(p *preparation, try int) {
		if p.current(try) {
			p.failed(aFailure, time.Unix(0, 0))
		}
	}},
	{"start_failed", func(p *preparation, _ int) {
		if p.prepare == reconcile.Done {
			p.failed(aFailure, time.Unix(0, 0))
		}
	}},
	{"restart", func(p *preparation, _ int) { p.restart() }},
	{"give_up", func(p *preparation, _ int) { p.giveUp() }},
	{"forget_attempts", func(p *preparation, _ int) { p.forgetAttempts() }},
}

func TestPreparation(t *testing.T) {
	for _, c := range []struct {
		name           string
		steps          string // by index in prepSteps
		stage, prepare reconcile.Step
		failed         bool
	}{
		{"begins_pending", "", reconcile.Pending, reconcile.Pending, false},
		{"staged", "02", reconcile.Done, reconcile.Pending, false},
		{"prepared", "0212", reconcile.Done, reconcile.Done, false},
		{"a_model_that_is_missing", "03", reconcile.Failed, reconcile.Pending, true},
		{"an_engine_that_is_missing", "0213", reconcile.Failed, reconcile.Pending, true},
		{"a_start_that_failed_keeps_the_unit", "02124", reconcile.Failed, reconcile.Done, true},
		{"the_next_attempt_begins_with_the_model", "030", reconcile.Running, reconcile.Pending, true},
		{"a_change_asks_for_all_of_it", "02125", reconcile.Pending, reconcile.Pending, false},
		{"a_change_in_the_middle", "0215", reconcile.Pending, reconcile.Pending, false},
		{"given_up_is_asked_for_again", "06", reconcile.Pending, reconcile.Pending, false},
		{"given_up_keeps_what_is_staged", "0216", reconcile.Done, reconcile.Pending, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p preparation
			for _, i := range c.steps {
				prepSteps[i-'0'].do(&p, p.try)
			}
			if p.stage != c.stage || p.prepare != c.prepare || (p.failure != nil) != c.failed {
				t.Errorf("stage %d, prepare %d, failure %v", p.stage, p.prepare, p.failure)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	for attempts, want := range []time.Duration{2, 4, 8, 16, 30, 30} {
		if got := retryAfter(attempts); got != want*time.Second {
			t.Errorf("after %d attempts %s, want %s", attempts, got, want*time.Second)
		}
	}
}

// FuzzPreparation holds what must be true after any order of things, results of given-up steps
// among them.
func FuzzPreparation(f *testing.F) {
	f.Add([]byte{0, 2, 1, 2})
	f.Add([]byte{0, 5, 2, 0, 2, 6, 1, 3})
	f.Fuzz(mutate.Many(func(t *testing.T, b []byte) {
		var p preparation
		old := 0
		running := 0 // steps begun and not cancelled
		for _, x := range b {
			step := prepSteps[int(x&15)%len(prepSteps)]
			try := p.try
			if x&16 != 0 {
				try = old // a late result
			}
			before := p
			switch step.name {
			case "stage", "prepare":
				if step.name == "prepare" && p.stage != reconcile.Done {
					continue
				}
				running++
				stop := func() { running-- }
				old = p.try
				if step.name == "stage" {
					p.beginStage(stop)
				} else {
					p.beginPrepare(stop)
				}
			default:
				step.do(&p, try)
			}
			check(t, before, p, step.name, try, running)
		}
		p.giveUp()
		if running != 0 {
			t.Errorf("%d steps are never cancelled", running)
		}
	}))
}

// check holds the invariants of a preparation behind one step.
func check(t *testing.T, before, p preparation, step string, try, running int) {
	t.Helper()
	active := 0
	for _, s := range []reconcile.Step{p.stage, p.prepare} {
		if s == reconcile.Running {
			active++
		}
	}
	switch {
	case active > 1 || active != running || (p.cancel != nil) != (active == 1):
		t.Errorf("%s: %d steps run, %d contexts live, stage %d, prepare %d", step, active, running, p.stage, p.prepare)
	case p.prepare != reconcile.Pending && p.stage != reconcile.Done && p.stage != reconcile.Failed:
		t.Errorf("%s: prepare is %d with stage %d", step, p.prepare, p.stage)
	case p.prepare == reconcile.Done && p.spec.Identity == "":
		t.Errorf("%s: prepared without a unit", step)
	case p.stage == reconcile.Failed && p.failure == nil:
		t.Errorf("%s: failed without a reason", step)
	case p.try < before.try:
		t.Errorf("%s: the number of the step went back", step)
	case (step == "result" || step == "failure") && !before.current(try) &&
		(p.stage != before.stage || p.prepare != before.prepare):
		t.Errorf("%s: the result of a step that was given up counts", step)
	}
}
