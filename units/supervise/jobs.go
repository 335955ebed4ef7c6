package supervise

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// kill has PID 1 end a process that is unusable, as a crash would: its backoff and a new process
// follow.
func (s *Supervisor) kill(r *replica) {
	r.job.begin(reconcile.Kill)
	unit := r.unit.name
	r.last.fault = &fault{failure: r.run.fault, run: r.unit.status.InvocationID, at: time.Now()}
	s.o.Log.Warn("killing the engine's process, so that PID 1 starts it again: "+r.run.fault.Message, s.about(r)...)
	// Success shows as a change of the unit, which ends the action (observe). A failure ends it
	// here.
	seq := r.job.seq
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.Kill(ctx, unit)
		return func() {
			if err == nil || r.job.seq != seq || r.job.action == reconcile.None {
				return
			}
			r.job.end()
			s.o.Log.Error("PID 1 refused the job", append(s.about(r), "err", err)...)
			r.run.fault = nil
			s.settle(r)
		}
	}, s.broke(r))
}
