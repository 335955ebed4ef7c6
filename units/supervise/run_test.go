package supervise

import (
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// TestARunIsReplaced: nothing that was known of a run is known of the next, whatever the manager
// saw of the end.
func TestARunIsReplaced(t *testing.T) {
	again := func(st *systemd.Status) { st.InvocationID, st.MainPID = "another", 4711 }
	for _, c := range []struct {
		name string
		do   func(w *world)
	}{
		{"whose_end_was_seen", func(w *world) {
			w.change(unitOf("a"), crashed)
			w.change(unitOf("a"), func(st *systemd.Status) {
				again(st)
				st.ActiveState, st.SubState = "activating", "start-post"
			})
			w.change(unitOf("a"), func(st *systemd.Status) { st.ActiveState, st.SubState = "active", "running" })
		}},
		{"whose_end_was_missed", func(w *world) { w.change(unitOf("a"), again) }},
		{"that_has_another_unit_after_a_lost_connection", func(w *world) {
			w.with(func() { again(w.units[unitOf("a")]) })
			w.sync()
		}},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m, _, h := drainable(t, w)
			w.with(func() { w.mute[endpoint] = true }) // no probe is answered from here on
			m.s.post(func() {
				r := m.s.replica(pool.Replica{Pool: "a"})
				fill(r, m.s)
			})
			h.n.Store(1)
			synctest.Wait()
			c.do(w)
			synctest.Wait()
			m.s.post(func() {
				r := m.s.replica(pool.Replica{Pool: "a"})
				if r.run.watch == nil || r.run.watch.run != "another" {
					t.Errorf("the new run is not probed")
				}
				got := r.run
				got.watch = nil
				if want := (run{id: "another"}); !reflect.DeepEqual(got, want) {
					t.Errorf("the new run begins with %+v", got)
				}
			})
			synctest.Wait()
		})
	}
}

// fill sets every field of a run that serves; a field that is left out fails the test.
func fill(r *replica, s *Supervisor) {
	u := &r.run
	u.verdict, u.probeErr = reconcile.Unhealthy, registry.Fail(registry.CodeHealthFailed, "ill", "")
	u.failures, u.successes, u.slots, u.ctx, u.killed = 3, 4, 5, 6, true
	u.refused = map[bounds.Subject]string{bounds.OfSlots: "it is -2"}
	u.unanswered, u.reported = map[bounds.Subject]string{bounds.OfSlots: "status 401"}, []string{"slots"}
	u.fault = registry.Fail(registry.CodeHealthFailed, "ill for long", "")
	u.offload = []engine.Offload{{On: 1, Of: 2}}
	u.tally = tally{at: time.Now()}
	u.peaks = peaks{seen: []memory.DeviceUse{{Used: 1}}, began: time.Now()}
	u.measured = measured{reported: true}
	u.readySince = s.o.Clock.SinceBoot()
	s.beginDrain(r, "a test")
	for f := range reflect.ValueOf(*u).NumField() {
		if reflect.ValueOf(*u).Field(f).IsZero() {
			panic("the test knows nothing of run." + reflect.TypeOf(*u).Field(f).Name)
		}
	}
}
