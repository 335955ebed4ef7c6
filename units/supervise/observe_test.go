package supervise

import (
	"testing"
	"testing/synctest"

	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// TestLoadCutByStop: a unit whose gate is reported to end goes through "failed". While the manager
// itself stops it, that is neither a crash to be reported nor a broken unit to be waited for.
func TestLoadCutByStop(t *testing.T) {
	for _, c := range []struct {
		name    string
		op      reconcile.Action
		failure bool
	}{
		{"by_the_manager", reconcile.Stop, false},
		{"by_itself", reconcile.None, true},
	} {
		scenario(t, c.name, func(t *testing.T, w *world) {
			m := w.manage(t, pools(llama("a")))
			m.s.post(func() {
				r := m.s.entries["a"].sorted()[0]
				r.job.action = c.op
				failed := r.unit.status
				failed.ActiveState, failed.SubState, failed.MainPID = "failed", "failed", 0
				failed.Result, failed.ExecMainCode, failed.ExecMainStatus = "exit-code", cldExited, 1
				m.s.observe(r, failed)
				if told, waits := r.last.crash != nil, r.wait.on; told != c.failure || waits != c.failure {
					t.Errorf("reported as a crash: %t, waits before the next start: %t; want both %t", told, waits,
						c.failure)
				}
			})
			synctest.Wait()
		})
	}
}
