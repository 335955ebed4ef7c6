package supervise

import (
	"fmt"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestStopsAreBounded: of many engines that are to stop, a bounded number ends at once, and those
// that do not end delay the others by a bounded time.
func TestStopsAreBounded(t *testing.T) {
	scenario(t, "engines_that_take_long", func(t *testing.T, w *world) {
		var all []pool.Pool
		for i := range 3 * maxStops {
			all = append(all, llama(fmt.Sprintf("p%d", i)))
		}
		m := w.manage(t, pools(all...))
		for _, p := range all {
			w.passGate(unitOf(p.ID))
			m.wantState(p.ID, registry.StateReady, true)
		}
		w.with(func() { w.stubborn = make(chan struct{}) })
		m.apply(pools())
		for batch := 1; batch <= 3; batch++ {
			time.Sleep(stopShare / 2)
			if n := w.called("stop"); n != batch*maxStops {
				t.Errorf("after %d shares %d engines were asked to stop, want %d", batch-1, n, batch*maxStops)
			}
			time.Sleep(stopShare / 2)
		}
		close(w.stubborn)
	})
}
