package supervise

import (
	"sync/atomic"
	"testing"
	"time"
)

// turns counts what metrics would measure of the loop.
type turns struct {
	noObserver
	n, negative atomic.Int64
}

func (c *turns) Turned(took time.Duration) {
	c.n.Add(1)
	if took < 0 {
		c.negative.Add(1)
	}
}

func TestTheLoopIsMeasured(t *testing.T) {
	scenario(t, "each_turn_and_the_work_beside_it", func(t *testing.T, w *world) {
		counts := &turns{}
		m := w.manage(t, pools(llama("a")), func(o *Options) { o.Observer = counts })
		w.passGate(unitOf("a"))
		time.Sleep(time.Second)
		idle, before := m.s.InProgress(), counts.n.Load()
		time.Sleep(31 * time.Second) // six probes
		if after := counts.n.Load(); after < before+6 || counts.negative.Load() > 0 {
			t.Errorf("%d turns, then %d", before, after)
		}
		if idle < 1 {
			t.Errorf("%d goroutines follow PID 1 and the probes", idle)
		}
		m.stop()
		<-m.done
		if n := m.s.InProgress(); n != 0 {
			t.Errorf("%d are left after the loop has ended", n)
		}
	})
}
