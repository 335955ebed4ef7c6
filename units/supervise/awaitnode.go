package supervise

import (
	"cmp"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// noNode reports whether a start, PID 1's own restart among them, ended before the engine because a
// device node of its GPUs did not exist.
func noNode(st systemd.Status) bool {
	return st.PreCode == cldExited && st.PreStatus == exit.NoNode
}

// awaitNode makes a wait of such a start: nothing of the engine has failed, so that it counts for
// no breaker. The manager makes the next start, when the newest facts have the node, and tries from
// time to time where no one reports them.
func (s *Supervisor) awaitNode(r *replica, st systemd.Status, counted string, f *registry.Failure) {
	r.withdrawReport()
	if f == nil || r.unit.phase != reconcile.Backoff && r.unit.phase != reconcile.Broken {
		return
	}
	now := time.Now()
	if r.last.crash == nil || r.last.crash.Code != f.Code { // once for each start: its end is seen in parts
		r.job.startAt = r.job.nextAttempt(now)
	}
	// the first part of the end may have been counted, before PID 1 reported this step's status
	if r.past.State.Withdraw(cmp.Or(counted, st.InvocationID)) {
		r.wait.end()
	}
	r.last.crash, r.job.short = f, f
	r.wait.ours = r.unit.phase == reconcile.Backoff
	s.saveHistory(r)
	s.updateBlocked(r, now)
}
