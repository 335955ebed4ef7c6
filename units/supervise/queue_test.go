package supervise

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
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
