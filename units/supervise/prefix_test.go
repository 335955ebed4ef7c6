package supervise

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestPathsBelowAPrefix: a llama-server whose paths a flag moves is asked below that prefix alone.
func TestPathsBelowAPrefix(t *testing.T) {
	scenario(t, "slots_and_queue", func(t *testing.T, w *world) {
		w.deferred = "llamacpp:requests_deferred 3\n"
		m := w.manage(t, pools(llama("a", func(p *pool.Pool) { p.Args = []string{"--api-prefix", "/x"} })))
		w.passGate(unitOf("a"))
		time.Sleep(10 * time.Second)
		p := m.pool("a")
		if !p.Ready || p.SlotsTotal != 4 || p.QueueDepth == nil || *p.QueueDepth != 3 {
			t.Errorf("ready %t, %d slots, queue depth %v", p.Ready, p.SlotsTotal, p.QueueDepth)
		}
		if got := p.Replicas[0].Endpoint; got != endpoint+"/x" {
			t.Errorf("clients find it at %s, want %s", got, endpoint+"/x")
		}
		below, all := w.called("get "+endpoint+"/x/"), w.called("get ")
		if below == 0 || below != all {
			t.Errorf("%d of %d questions below the prefix", below, all)
		}
	})
}
