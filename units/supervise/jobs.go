package supervise

import (
	"context"
	"strings"

	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// restart has PID 1 replace a process that a GPU error made useless.
func (s *Supervisor) restart(r *replica) {
	ctx, gen, unit := s.begin(r, reconcile.Restart), r.gen, r.unit
	r.facts.Crash = r.facts.Fault
	s.Observer.Restarted(r.entry.last, strings.ToLower(string(r.facts.Fault.Code)), 1)
	s.Log.Warn("restarting the engine: "+r.facts.Fault.Message, s.about(r)...)
	s.ask(r, gen, func() error { return s.PID1.Restart(ctx, unit) })
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
