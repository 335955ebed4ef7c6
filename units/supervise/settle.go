package supervise

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// settle takes the changed data of a replica through every step, in this order: decide, then, of
// its whole pool, finish a drain, assess, see who has run well for long enough, say who may hold
// leases, publish, and take the next step of a reload.
func (s *Supervisor) settle(r *replica) {
	s.decide(r)
	s.settlePool(r.entry)
}

// settlePool takes a pool whose replicas were decided on through the other steps.
func (s *Supervisor) settlePool(e *entry) {
	if e.over() {
		s.drop(e)
		return
	}
	s.finishDrain(e)
	s.show(e)
	e.noted = s.noteCurrent(e)
	s.follow(e)
	s.followPreload(e)
	if e.saveAfter.After(time.Now()) {
		s.wakeAt(e, e.saveAfter) // what could not be written down is tried again
	} else {
		e.saveAfter = time.Time{}
	}
}

// show brings what others see of a pool up to date. Leases are possible before the registry says
// that the pool is ready.
func (s *Supervisor) show(e *entry) {
	for _, r := range e.replicas {
		s.noteStable(r, s.assess(r))
	}
	s.lease(e)
	s.publish(e)
	s.measure(e)
}

// decideAll decides for every replica, and drops the pools of which nothing is left.
func (s *Supervisor) decideAll() {
	for _, e := range s.entries {
		s.decidePool(e)
	}
}

// decideDue decides for the pools whose time has come.
func (s *Supervisor) decideDue(now time.Time) {
	for _, e := range s.due.take(now) {
		s.decidePool(e)
	}
}

func (s *Supervisor) decidePool(e *entry) {
	for _, r := range e.replicas {
		s.decide(r)
	}
	s.settlePool(e)
}

// decide asks for the next action and carries it out. Nothing is decided before PID 1's units are
// known, or else a unit that runs might be started a second time.
func (s *Supervisor) decide(r *replica) {
	for s.connected && s.applied {
		s.checkDrain(r, time.Now())
		s.killLate(r)
		s.takeDropped(r, time.Now())
		if s.beginReload(r) {
			return
		}
		f := r.facts()
		d := reconcile.Plan(f, time.Now())
		s.wakeAt(r.entry, d.At)
		if d.Action == reconcile.None {
			return
		}
		if !reconcile.May(d.Action, reconcile.Assess(f).State) {
			s.o.Log.Error("refused an action that is not legal in the replica's state; please report this defect",
				append(s.about(r), "action", string(d.Action), "rule", d.Rule)...)
			return
		}
		s.o.Log.Debug("decided", append(s.about(r), "action", string(d.Action), "rule", d.Rule, "human", d.Reason)...)
		s.act(r, d)
		if r.job.action != reconcile.None || d.Action == reconcile.Forget {
			return
		}
	}
}

// wakeAt has a pool decided on again at a time, although nothing happens before.
func (s *Supervisor) wakeAt(e *entry, at time.Time) {
	if !at.IsZero() {
		s.due.add(e, at)
	}
}
