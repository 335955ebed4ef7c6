package supervise

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// confirmAfter is how long a unit is failed before that is believed. Below systemd 254 each crash
// passes "failed" on its way to "auto-restart" (service_enter_dead in its service.c), and both
// signals do not come at once. RestartMode= came with a state of its own for that,
// "failed-before-auto-restart".
const confirmAfter = 200 * time.Millisecond

// unconfirmed reports whether a unit that failed may be on its way to a restart, which is what it
// is taken for until it is confirmed. One at its start limit is not.
func (s *Supervisor) unconfirmed(r *replica, st systemd.Status) bool {
	if !s.passesFailed || phaseOf(st) != reconcile.Broken || st.Result == startLimitHit ||
		r.unit.broken == st.InvocationID {
		return false
	}
	if r.unit.confirming != st.InvocationID {
		r.unit.confirming = st.InvocationID
		s.confirm(r, st.InvocationID)
	}
	return true
}

// confirm reads a failed unit again, in a while.
func (s *Supervisor) confirm(r *replica, run string) {
	unit := r.unit.name
	s.effect(func(ctx context.Context) func() {
		select {
		case <-ctx.Done():
		case <-time.After(confirmAfter):
		}
		st, err := s.o.PID1.Unit(ctx, unit)
		return func() {
			r.unit.confirming = ""
			same := r.unit.status.InvocationID == run && r.unit.status.ActiveState == "failed" &&
				r.entry.replicas[r.id] == r
			if err != nil || !same || st.InvocationID != run || phaseOf(st) != reconcile.Broken {
				return // a change reports more, or the next connection to PID 1 does
			}
			r.unit.broken = run
			s.observe(r, st)
			s.settle(r)
		}
	}, func(error) { r.unit.confirming = "" })
}
