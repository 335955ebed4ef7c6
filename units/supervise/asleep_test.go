package supervise

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestSleepingEngine: an engine that sleeps while no one uses it is neither woken nor kept awake by
// the manager, and is shown to sleep.
func TestSleepingEngine(t *testing.T) {
	const awake, asleep = `{"total_slots":4,"is_sleeping":false}`, `{"total_slots":4,"is_sleeping":true}`
	sleeps := func(p *pool.Pool) { p.Args = []string{"--sleep-idle-seconds", "20"} }
	uses := func(w *world) int { return w.called("get "+endpoint+"/slots") + w.called("generate") }
	scenario(t, "is_not_kept_awake_while_it_is_not_used", func(t *testing.T, w *world) {
		w.answers = awake
		m := servingJudged(t, w, sleeps)
		time.Sleep(10 * time.Minute)
		if n := uses(w); n != 0 || m.pool("a").Replicas[0].Asleep {
			t.Errorf("%d requests that count as a use", n)
		}
	})
	scenario(t, "sleeps_on_and_is_shown_so", func(t *testing.T, w *world) {
		w.answers = awake
		m := servingJudged(t, w, sleeps)
		w.with(func() { w.answers = asleep })
		time.Sleep(6 * time.Second)
		if r := m.pool("a").Replicas[0]; !r.Asleep || !r.Ready || !strings.Contains(r.Reason, "sleeps") {
			t.Fatalf("asleep %t, ready %t: %s", r.Asleep, r.Ready, r.Reason)
		}
		time.Sleep(10 * time.Minute)
		if n := uses(w); n != 0 {
			t.Errorf("%d requests that wake it", n)
		}
		w.with(func() { w.answers = awake })
		time.Sleep(6 * time.Second)
		if r := m.pool("a").Replicas[0]; r.Asleep || strings.Contains(r.Reason, "sleeps") {
			t.Errorf("asleep %t: %s", r.Asleep, r.Reason)
		}
	})
	scenario(t, "is_drained_without_being_woken", func(t *testing.T, w *world) {
		w.answers = awake
		m := servingJudged(t, w, sleeps)
		w.with(func() { w.answers, w.busy[endpoint] = asleep, 1 })
		time.Sleep(6 * time.Second)
		m.apply(pools())
		time.Sleep(3 * time.Second)
		if n := uses(w); n != 0 || w.called("stop") != 1 {
			t.Errorf("%d requests that wake it, %d stops", n, w.called("stop"))
		}
	})
	scenario(t, "one_that_does_not_sleep_is_asked_as_before", func(t *testing.T, w *world) {
		servingJudged(t, w)
		time.Sleep(10 * time.Minute)
		if uses(w) == 0 {
			t.Error("no test generation was made")
		}
	})
}

// TestServedContext: the context that an engine reports is shown, and one that is less than was
// asked for is logged.
func TestServedContext(t *testing.T) {
	for name, c := range map[string]struct {
		asked, served int
		log           bool
	}{
		"as_asked": {4096, 4096, false}, "less": {8192, 4096, true}, "its_own": {0, 4096, false},
		"rounded_up": {4000, 4096, false},
	} {
		scenario(t, name, func(t *testing.T, w *world) {
			w.answers = `{"total_slots":4,"default_generation_settings":{"n_ctx":4096}}`
			log := &lockedLog{}
			m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Ctx = c.asked })), func(o *Options) {
				o.Log = slog.New(slog.NewTextHandler(log, nil))
			})
			w.passGate(unitOf("a"))
			time.Sleep(6 * time.Second)
			p := m.pool("a")
			r := p.Replicas[0]
			if p.State != registry.StateReady || r.Ctx != c.served || r.CtxAsked != c.asked || p.Ctx != c.served {
				t.Errorf("%s: context %d of %d, the pool's %d", p.State, r.Ctx, r.CtxAsked, p.Ctx)
			}
			logged := strings.Count(log.String(), "serves a context of 4096 tokens, less than the 8192")
			if (logged == 1) != c.log {
				t.Errorf("logged %d times", logged)
			}
		})
	}
}
