package supervise

import (
	"context"
	"errors"
	"syscall"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// The ports of replicas without a network are held by PID 1 (render.Port) from their first start
// until the replica is forgotten or gets another port, whether an engine runs or not: the requests
// of clients that still connect must not reach another program. What is held is a fact of PID 1's
// and is asked for each time; nothing here remembers it.

// takePort makes a port ready for an engine's start: PID 1 holds it, or it is free for the engine.
func (s *Supervisor) takePort(ctx context.Context, id pool.Replica, port int, hold *render.Port) error {
	if hold == nil {
		return s.freePort(ctx, id, port)
	}
	// Those of another port that this replica had, and of another side of it that had this one.
	_, err := s.releasePorts(ctx, func(p pool.Port) bool {
		return (p.Replica == hold.Replica) != (p.Number == hold.Number)
	})
	if err != nil {
		return err
	}
	if err = s.o.PID1.HoldPort(ctx, hold); err == nil {
		return nil
	}
	if taken := s.o.PortFree(port); taken != nil {
		return taken
	}
	return err
}

// freePort checks that an engine may listen on a port, which may still be held from a time when the
// pool had no network.
func (s *Supervisor) freePort(ctx context.Context, id pool.Replica, port int) error {
	taken := s.o.PortFree(port)
	if taken == nil {
		return nil
	}
	released, err := s.releasePorts(ctx, func(p pool.Port) bool { return p.Replica == id || p.Number == port })
	if err != nil || !released {
		return errors.Join(taken, err)
	}
	return s.o.PortFree(port)
}

// releasePorts lets go of the ports that are held and match, and reports whether there were any.
func (s *Supervisor) releasePorts(ctx context.Context, match func(pool.Port) bool) (released bool, err error) {
	held, err := s.o.PID1.HeldPorts(ctx)
	for _, p := range held {
		if match(p) {
			released = true
			err = errors.Join(err, s.o.PID1.ReleasePort(ctx, p))
		}
	}
	return released, err
}

// releasePortsOf lets go of the ports of a replica that is gone.
func (s *Supervisor) releasePortsOf(id pool.Replica) {
	s.effect(func(ctx context.Context) func() {
		_, err := s.releasePorts(ctx, func(p pool.Port) bool { return p.Replica == id })
		return func() { s.portsReleased(err) }
	}, func(error) {})
}

func (s *Supervisor) portsReleased(err error) {
	if err != nil {
		s.o.Log.Warn("could not release ports that PID 1 holds; see systemctl list-units 'pool-port@*'", "err", err)
	}
}

// sweepPorts lets go of what a former manager left: ports of replicas that are gone, or that have
// another port now.
func (s *Supervisor) sweepPorts() {
	s.effect(func(ctx context.Context) func() {
		held, err := s.o.PID1.HeldPorts(ctx)
		return func() {
			s.portsReleased(err)
			for _, p := range held {
				e := s.entries[p.Replica.Pool]
				if e == nil || e.replicas[p.Replica] == nil || !e.replicas[p.Replica].mayHave(p.Number) {
					s.releasePort(p)
				}
			}
		}
	}, func(error) {})
}

func (s *Supervisor) releasePort(p pool.Port) {
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.ReleasePort(ctx, p)
		return func() { s.portsReleased(err) }
	}, func(error) {})
}

// mayHave reports whether the replica has this port, or none yet.
func (r *replica) mayHave(port int) bool { return r.unit.port == 0 || r.unit.port == port }

// holdAgain has PID 1 hold a port again whose socket unit was stopped by hand. A probe is refused
// in no other case, since PID 1 accepts the connections of such a port.
func (s *Supervisor) holdAgain(r *replica, probe error) {
	if !errors.Is(probe, syscall.ECONNREFUSED) || r.unit.status.LogFields[render.FieldSocket] == "" ||
		r.prep.prepare != reconcile.Done || r.prep.plan == nil {
		return
	}
	hold := r.prep.plan.Port()
	if hold == nil || hold.Number != r.unit.port {
		return
	}
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.HoldPort(ctx, hold)
		return func() {
			if err != nil {
				s.o.Log.Error("could not hold the engine's port again", append(s.about(r), "err", err)...)
				return
			}
			s.o.Log.Warn("the socket unit of the engine's port had been stopped; it listens again", s.about(r)...)
		}
	}, func(error) {})
}
