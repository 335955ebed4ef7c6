package supervise

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// kill has PID 1 end a process that is of no more use, as a crash would: its backoff and a new process follow.
func (s *Supervisor) kill(r *replica) {
	ctx, gen, unit := s.begin(r, reconcile.Kill), r.gen, r.unit
	r.fault = &fault{failure: r.facts.Fault, run: r.status.InvocationID, at: time.Now()}
	s.Log.Warn("ending the engine's process, so that PID 1 starts it again: "+r.facts.Fault.Message, s.about(r)...)
	s.ask(r, gen, func() error { return s.PID1.Kill(ctx, unit) })
}

// hasten has PID 1 start a unit now that waits for its backoff.
func (s *Supervisor) hasten(r *replica) {
	ctx, gen, unit := s.begin(r, reconcile.Hasten), r.gen, r.unit
	s.Log.Info("starting the engine now: the memory that it lacked is free", s.about(r)...)
	s.ask(r, gen, func() error { return s.PID1.Hasten(ctx, unit) })
}

// ask makes a call whose success shows as a change of the unit, which ends the action (observe). A failure ends it here.
func (s *Supervisor) ask(r *replica, gen int, call func() error) {
	op := r.op
	s.effect(func(context.Context) func() {
		err := call()
		return func() {
			if err == nil || r.op != op || r.facts.Op == reconcile.None {
				return
			}
			s.end(r, gen)
			s.Log.Error("PID 1 did not take the job", append(s.about(r), "err", err)...)
			r.facts.Fault, r.facts.Freed = nil, false
			s.settle(r)
		}
	}, s.broke(r))
}
