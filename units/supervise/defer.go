package supervise

import (
	"context"

	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// deferStart ends a unit's wait for its restart: the manager starts it when its time has come.
// Where PID 1 has begun the restart before it takes the stop, the run goes on and counts as any
// other: to cut it would be one more execution that is neither a failure nor of use. The unit has
// no process, so the stop need not wait for others.
func (s *Supervisor) deferStart(r *replica) {
	unit := r.unit.name
	s.stopAndReset(r, reconcile.Defer, func(ctx context.Context) error { return s.o.PID1.StopWaiting(ctx, unit) })
}

// restartBegan leaves the restart after a run to PID 1, which was faster. Its start limit may still
// refuse it. Where that run has failed too by now, its own restart is to be prevented.
func (s *Supervisor) restartBegan(r *replica, run string) {
	if r.past.Runs.Run == run || !r.past.Runs.Waits() {
		r.wait.ours = false
	}
	s.o.Log.Info("PID 1 had begun the restart already; this run counts as any other", s.about(r)...)
	if r.past.State.Failures == 0 { // an operator's reset: what PID 1 has counted is over, too
		s.resetCounters(r, "the unit's restart counter in PID 1 is reset, too")
	}
	s.saveHistory(r)
}
