package supervise

import (
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// Leases is who holds what of the replicas. Its methods return at once.
type Leases interface {
	// SetPool reports what may be held of a pool. Leases of a process that was removed end; why
	// reports their holders the reason.
	SetPool(id string, p lease.Pool, why func(replica string) string)
	// Forget ends every lease of a pool that was removed.
	Forget(id string)
	// Active is how many leases a replica has.
	Active(pool, replica string) int
	// Cut ends every lease of a replica, and reports their holders why.
	Cut(pool, replica, why string)
}

// lease says what may be held of a pool now. Nothing is said before the units are known: every
// lease of a former manager would seem to be of a process that is gone.
func (s *Supervisor) lease(e *entry) {
	if s.o.Leases == nil || !s.everSynced {
		return
	}
	p := lease.Pool{Draining: e.parked()}
	if p.Draining {
		p.RenewUntil = s.renewUntil(e)
	}
	why := make(map[string]string)
	for _, r := range e.sorted() {
		p.Seats = append(p.Seats, r.seat())
		why[r.id.Name()] = r.lossReason()
	}
	s.o.Leases.SetPool(e.id, p, func(replica string) string {
		if text, known := why[replica]; known {
			return text
		}
		return "the engine no longer exists"
	})
}

// renewUntil is the moment at which no lease of a pool that drains lives any longer. It is a little
// behind the deadline, so that what is held then is cut, and reported so, and does not merely
// expire.
func (s *Supervisor) renewUntil(e *entry) lease.Moment {
	return lease.Moment(s.o.Clock.In(s.o.Clock.Left(e.intent.Drain.Deadline) + forceAfter).At)
}

// seat is the replica as leases are counted.
func (r *replica) seat() lease.Seat {
	seat := lease.Seat{
		Replica: r.id.Name(), Stable: r.id.Stable(), Endpoint: r.servedAt(), Slots: r.slotsTotal(),
		Open: reconcile.Assess(r.facts()).Ready,
	}
	if r.external() && !r.wish.parked {
		seat.Run = externalRun(r.wish.pool) // also before it was probed: a new manager knows of it at once
	}
	if r.unit.phase == reconcile.Active || r.unit.phase == reconcile.Stopping {
		seat.Run = r.unit.status.InvocationID
	}
	return seat
}

// lossReason says why leases of a former process of the replica are lost.
func (r *replica) lossReason() string {
	switch {
	case r.last.crash != nil:
		return "the engine ended: " + r.last.crash.Error()
	case r.view.lastErr != nil && r.view.lastErr.Code == registry.CodeDrainTimeout:
		return r.view.lastErr.Error()
	}
	return "the engine was stopped"
}
