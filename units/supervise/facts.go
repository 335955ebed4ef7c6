package supervise

import (
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// facts is everything that is known about the replica, as package reconcile decides on it. Nothing
// else makes reconcile.Facts, and nothing changes one.
func (r *replica) facts() reconcile.Facts {
	f := reconcile.Facts{
		Wish: r.wish.asks, Role: r.wish.role, Rolling: r.wish.rolling, Parked: r.wish.parked, Revive: r.wish.revive,
		Invalid: r.wish.invalid, Refusal: r.wish.refusal, Rejected: r.wish.rejected,
		FailOpen: r.wish.known && r.wish.pool.Health.Mode == pool.FailOpen,

		Stage: r.prep.stage, Prepare: r.prep.prepare, Failure: r.prep.failure, Spec: r.prep.spec,

		Op: r.job.action, Short: r.job.short, StopErr: r.job.stopErr, StopAt: r.job.stopAt, RetryAt: r.job.startAt,
		Unsure: r.job.unsure,

		Unit: r.unit.phase, UnitSpec: r.unit.spec, EndedItself: r.endedItself(),

		GPU: r.gpu.blocked,

		Delayed: r.wait.on, DelayedUntil: r.wait.until, BreakerErr: r.wait.err, Ours: r.wait.ours,

		Crash: r.last.crash, DrainErr: r.last.cut,
	}
	f.DiskOver, f.Disk = r.diskFailures()
	f.Bare = r.bare()
	if r.prep.hasFailed() {
		f.RetryAt = r.prep.retryAt
	}
	if f.Unit == reconcile.Active { // what is known of a run counts for as long as it serves
		f.Probe, f.ProbeErr, f.Fault, f.Drain = r.run.verdict, r.run.probeErr, r.run.fault, r.run.drainage()
	}
	return f
}
