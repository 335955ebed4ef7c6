package supervise

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestQueueDepth(t *testing.T) {
	scenario(t, "follows_the_engines_own_counter", func(t *testing.T, w *world) {
		w.deferred = "llamacpp:requests_deferred 3\n"
		m := serving(t, w)
		if n := m.pool("a").QueueDepth; n == nil || *n != 3 {
			t.Fatalf("queue depth %v, want 3", n)
		}
		w.with(func() { w.deferred = "llamacpp:requests_deferred 0\n" })
		time.Sleep(6 * time.Second)
		if n := m.pool("a").QueueDepth; n == nil || *n != 0 {
			t.Errorf("queue depth %v, want a known 0", n)
		}
	})
	scenario(t, "is_unknown_while_the_engine_does_not_count_or_does_not_run", func(t *testing.T, w *world) {
		w.deferred = "llamacpp:requests_deferred 3\n"
		m := serving(t, w)
		w.change(unitOf("a"), func(st *systemd.Status) { crashed(st) })
		time.Sleep(time.Millisecond)
		if n := m.pool("a").QueueDepth; n != nil {
			t.Errorf("queue depth %d of an engine that ended", *n)
		}
		w.with(func() { w.deferred = "llamacpp:requests_processing 3\n" })
		w.again(unitOf("a"))
		w.passGate(unitOf("a"))
		time.Sleep(6 * time.Second)
		if p := m.pool("a"); !p.Ready || p.QueueDepth != nil {
			t.Errorf("ready %t, queue depth %v", p.Ready, p.QueueDepth)
		}
	})
}

// TestQueueIsAskedForWhereItMatters: a second request with each probe of an idle engine would cost
// as much as the probe.
func TestQueueIsAskedForWhereItMatters(t *testing.T) {
	questions := func(w *world) int {
		before := w.called("get " + endpoint + "/metrics")
		time.Sleep(time.Minute) // twelve probes
		return w.called("get "+endpoint+"/metrics") - before
	}
	idle := func(t *testing.T, w *world) *held {
		w.deferred = "llamacpp:requests_deferred 0\n"
		_, _, h := drainable(t, w)
		time.Sleep(30*time.Second + 500*time.Millisecond) // probes come on whole seconds, and not now
		return h
	}
	scenario(t, "an_idle_engine_with_each_sixth_probe", func(t *testing.T, w *world) {
		idle(t, w)
		if n := questions(w); n != 2 {
			t.Errorf("asked %d times in twelve probes, want twice", n)
		}
	})
	scenario(t, "one_with_leases_with_each_probe_and_a_while_longer", func(t *testing.T, w *world) {
		h := idle(t, w)
		h.n.Store(1)
		time.Sleep(5 * time.Second)
		if n := questions(w); n < 11 {
			t.Errorf("asked %d times in twelve probes with a lease", n)
		}
		h.n.Store(0)
		if n := questions(w); n < 6 || n > 8 {
			t.Errorf("asked %d times in twelve probes after the last lease", n)
		}
	})
	scenario(t, "one_with_a_queue_until_it_is_empty", func(t *testing.T, w *world) {
		idle(t, w)
		w.with(func() { w.deferred = "llamacpp:requests_deferred 3\n" })
		time.Sleep(30 * time.Second)
		if n := questions(w); n < 11 {
			t.Errorf("asked %d times in twelve probes while requests wait", n)
		}
		w.with(func() { w.deferred = "llamacpp:requests_deferred 0\n" })
		time.Sleep(5 * time.Second)
		if n := questions(w); n > 3 {
			t.Errorf("asked %d times in twelve probes after the queue was empty", n)
		}
	})
	scenario(t, "after_a_failed_probe_at_once", func(t *testing.T, w *world) {
		idle(t, w)
		w.ill(true)
		time.Sleep(6 * time.Second)
		w.ill(false)
		before := w.called("get " + endpoint + "/metrics")
		time.Sleep(6 * time.Second)
		if n := w.called("get "+endpoint+"/metrics") - before; n == 0 {
			t.Error("the first probe that succeeds asks nothing")
		}
	})
}

// TestAnswersThatAreLate: a probe whose questions take long counts, and what was probed since is
// not undone by it.
func TestAnswersThatAreLate(t *testing.T) {
	scenario(t, "a_later_failure_stays", func(t *testing.T, w *world) {
		w.metricsTake = 12 * time.Second
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) {
			p.Health.Timeout, p.Health.Failures = 20*time.Second, 2
		})))
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		w.ill(true)
		time.Sleep(10 * time.Second) // two probes have failed
		m.wantState("a", registry.StateUnhealthy, false)
		time.Sleep(2 * time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
	})
}
