package supervise

import (
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// standsStill takes a look at whether the engine's unit is frozen. Who froze it wants it to stay as
// it is: it is unready, and not restarted before it had escalate_after since it was thawed. It
// reports whether what is shown of it changed.
func (w *watch) standsStill(frozen bool, now time.Time) (changed bool) {
	thawed := w.frozen && !frozen
	if w.frozen = frozen; frozen || thawed {
		w.unhealthySince = now
	}
	if thawed {
		w.causes = nil // the next failure is shown as it is
	}
	return frozen && w.nameFreeze()
}

// nameFreeze adds that the unit is frozen to why its probes fail, once for each cause.
func (w *watch) nameFreeze() bool {
	run := &w.r.run
	if run.verdict != reconcile.Unhealthy || run.probeErr == nil || run.fault != nil ||
		strings.HasSuffix(run.probeErr.Message, isFrozen) {
		return false
	}
	w.explain(isFrozen, "systemctl thaw '"+w.r.unit.name+"' lets it go on, or systemctl thaw "+pool.Slice+
		" where the slice was frozen. It is not restarted while it is frozen.")
	return true
}

const isFrozen = "; its unit is frozen (systemctl freeze)"

// droppedAfter is how long a unit may be about to be restarted without a job: it gets one at once.
const droppedAfter = 3 * time.Second

// noteDropped notes since when PID 1 is to restart a unit and has no job of it. That is so where
// the process ended while the unit, or its slice, was frozen: PID 1 drops the job, and makes no
// other one when it is thawed (seen on 257 and 262; 252 restarts a frozen unit).
func (r *replica) noteDropped(st systemd.Status, now time.Time) {
	switch {
	case st.SubState != "auto-restart-queued" || st.JobID != 0:
		r.unit.dropped = time.Time{}
	case r.unit.dropped.IsZero():
		r.unit.dropped = now
	}
}

// takeDropped has the manager make a start that PID 1 no longer makes.
func (s *Supervisor) takeDropped(r *replica, now time.Time) {
	if r.unit.dropped.IsZero() || r.wait.ours {
		return
	}
	if at := r.unit.dropped.Add(droppedAfter); now.Before(at) {
		s.wakeAt(r.entry, at)
		return
	}
	r.wait.take()
	s.o.Log.Warn("PID 1 does not restart the engine's unit, which was frozen; the manager stops it and makes the "+
		"next start", s.about(r)...)
}

// bare is what a unit without its settings means for the engine that runs in it; nil: it has them.
func (r *replica) bare() *registry.Failure {
	st := r.unit.status
	if !st.Bare() || !has(r.unit.phase) {
		return nil
	}
	hint := "poolctl restart " + r.id.Pool + " replaces the engine by one in a whole unit."
	if st.LoadState == "masked" {
		hint = "systemctl unmask '" + r.unit.name + "', then systemctl daemon-reload."
	}
	return registry.Fail(registry.CodeUnitFileMissing, "PID 1 has the engine's unit without its file ("+st.LoadState+
		"): it no longer enforces the engine's limits, devices and addresses", hint)
}
