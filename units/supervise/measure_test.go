package supervise

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/units/bench"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// targets are the runs that were reported to be measured.
type targets struct {
	mu   sync.Mutex
	list []bench.Target
}

func (t *targets) take(one bench.Target) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.list = append(t.list, one)
}

func (t *targets) all() []bench.Target {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]bench.Target(nil), t.list...)
}

// measuredPool is a pool, with benchmark as in its file.
func measuredPool(benchmark bool, args ...string) pool.Pool {
	p := llama("a")
	p.Hints.Benchmark, p.Args = benchmark, args
	return p
}

// TestReportedToBeMeasured: each run once, when it serves, with what it is.
func TestReportedToBeMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, seen := newWorld(), &targets{}
		m := w.manage(t, pools(measuredPool(true)), func(o *Options) { o.Measure = seen.take })
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(seen.all()); n > 0 {
			t.Fatalf("%d runs are reported before one serves", n)
		}
		w.passGate(unitOf("a"))
		time.Sleep(time.Minute)
		synctest.Wait()
		first := seen.all()
		if len(first) != 1 {
			t.Fatalf("reported %+v", first)
		}
		got := first[0]
		if got.Pool != "a" || got.Replica != "r0" || got.Run == "" || got.Endpoint != endpoint || got.Ask == nil ||
			!got.Automatic || got.Identity.Engine != "llamacpp" || got.Identity.Settings == "" {
			t.Errorf("%+v", got)
		}
		_ = m.s.Apply(t.Context(), pools(measuredPool(false)))
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := seen.all(); len(all) != 2 || all[1].Automatic || all[1].Run != got.Run ||
			all[1].Identity.Key() != got.Identity.Key() {
			t.Errorf("after it was switched off: %+v", all)
		}
		_ = m.s.Apply(t.Context(), pools(measuredPool(false, "--jinja")))
		time.Sleep(time.Minute)
		w.passGate(besideOf("a"))
		time.Sleep(time.Minute)
		synctest.Wait()
		if all := seen.all(); len(all) != 3 || all[2].Name != "r0" || all[2].Replica == "r0" ||
			all[2].Identity.Key() == got.Identity.Key() {
			t.Errorf("with other arguments: %+v", all)
		}
	})
}
