package render_test

import (
	"runtime"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/render"
)

// planBytes is how much memory a plan may take, besides what it shares with its input: 3 KiB, and
// room for the race detector, which adds about 40 bytes to the largest (go1.26).
const planBytes = 3<<10 + 256

// TestPlanIsSmall: a manager keeps one for each of its engines.
func TestPlanIsSmall(t *testing.T) {
	const n = 200
	for _, c := range goldenCases {
		plans := make([]*render.Plan, n)
		measure := func() int64 {
			clear(plans)
			return held(func() {
				for i := range plans {
					p, err := render.NewPlan(c.input)
					if err != nil {
						t.Fatal(err)
					}
					plans[i] = p
				}
			}) / n
		}
		one := min(measure(), measure(), measure()) // what the runtime allocates meanwhile counts, too
		if one > planBytes {
			t.Errorf("%s: a plan takes %d bytes, more than %d", c.name, one, planBytes)
		}
		runtime.KeepAlive(plans)
	}
}

// BenchmarkPlan is the memory of a plan, and of the unit that is rendered from it.
func BenchmarkPlan(b *testing.B) {
	for b.Loop() {
		const n = 100
		plans, units := make([]*render.Plan, n), make([]render.Unit, n)
		plan := held(func() {
			for i := range plans {
				p, err := render.NewPlan(goldenCases[0].input)
				if err != nil {
					b.Fatal(err)
				}
				plans[i] = p
			}
		})
		unit := held(func() {
			for i := range units {
				units[i] = plans[i].Unit()
			}
		})
		b.ReportMetric(float64(plan)/n, "B/plan")
		b.ReportMetric(float64(unit)/n, "B/unit")
		runtime.KeepAlive(plans)
		runtime.KeepAlive(units)
	}
}

// held is how many bytes f makes and leaves in use.
func held(f func()) int64 {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return int64(after.HeapAlloc) - int64(before.HeapAlloc)
}
