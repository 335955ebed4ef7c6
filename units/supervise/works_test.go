package supervise

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
)

// TestBusyIsNotDead: an engine that only answers late is not killed while it works, up to a limit.
// One that does not work, refuses connections or answers wrongly is killed after escalate_after.
func TestBusyIsNotDead(t *testing.T) {
	for _, c := range []struct {
		name   string
		why    string  // its probes fail with
		share  float64 // of a core that it uses
		leases int64
		limit  time.Duration
		kill   time.Duration // when it is killed; 0: not within an hour
	}{
		{"late_and_works", probe.ReasonTimeout, 0.5, 0, 0, 0},
		{"late_and_works_a_little_for_its_leases", probe.ReasonTimeout, 0.002, 1, 0, 0},
		{"late_and_works_a_little_for_no_one", probe.ReasonTimeout, 0.002, 0, 0, 2 * time.Minute},
		{"late_and_hangs_with_leases", probe.ReasonTimeout, 0, 1, 0, 2 * time.Minute},
		{"late_and_spins_for_ever", probe.ReasonTimeout, 1, 1, 10 * time.Minute, 10 * time.Minute},
		{"a_limit_below_the_time_without_work", probe.ReasonTimeout, 1, 1, time.Minute, 2 * time.Minute},
		{"refuses_connections", probe.ReasonRefused, 1, 1, 0, 2 * time.Minute},
		{"answers_wrongly", probe.ReasonStatus, 1, 1, 0, 2 * time.Minute},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			h, began := &held{}, time.Now()
			p := withGeneration("a", func(p *pool.Pool) {
				p.Health.EscalateLimit, p.Health.GenerateInterval = c.limit, 0
			})
			m := w.manage(t, pools(p), with(&shelf{kept: make(map[string]keep.Intent)}, h), func(o *Options) {
				o.Activity = func(unit string) (Activity, bool) {
					return Activity{CPU: time.Duration(c.share * float64(time.Since(began)))}, unit == unitOf("a")
				}
			})
			w.passGate(unitOf("a"))
			m.wantState("a", registry.StateReady, true)
			h.n.Store(c.leases)
			w.illWith(c.why)
			spare := c.kill
			if spare == 0 {
				spare = time.Hour
			}
			time.Sleep(spare)
			m.wantState("a", registry.StateUnhealthy, false)
			if n := w.called("kill"); n != 0 {
				t.Fatalf("%d kills within %s", n, spare)
			}
			time.Sleep(30 * time.Second)
			switch n := w.called("kill"); {
			case c.kill == 0 && n != 0:
				t.Errorf("%d kills of an engine that works", n)
			case c.kill != 0 && n != 1:
				t.Errorf("%d kills after %s, want one", n, c.kill)
			case c.kill > 2*time.Minute && !strings.Contains(m.pool("a").LastError.Message, "although it works"):
				t.Error(m.pool("a").LastError)
			}
		})
	}
	scenario(t, "work_that_ends_gives_it_up_later", func(t *testing.T, w *world) {
		began := time.Now()
		m := w.manage(t, pools(withGeneration("a", func(p *pool.Pool) { p.Health.GenerateInterval = 0 })),
			func(o *Options) {
				o.Activity = func(string) (Activity, bool) {
					return Activity{CPU: min(time.Since(began), 4*time.Minute)}, true
				}
			})
		w.passGate(unitOf("a"))
		w.illWith(probe.ReasonTimeout)
		time.Sleep(5*time.Minute + 30*time.Second)
		m.wantState("a", registry.StateUnhealthy, false)
		time.Sleep(time.Minute)
		if n := w.called("kill"); n != 1 {
			t.Errorf("%d kills two minutes after its last work", n)
		}
	})
}
