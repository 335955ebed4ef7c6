package supervise

import (
	"context"
	"errors"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// Waits after a failed attempt to stage, prepare or start: doubled each time. A model that is
// copied into place late is found within retryMax.
const (
	retryFirst = 2 * time.Second
	retryMax   = 30 * time.Second
)

// reconnecting is how long a start or a stop waits whose outcome was lost with the connection to PID 1. A reconnection takes less.
const reconnecting = time.Second

// stopWait bounds one stop job on top of the unit's own stop timeout, which PID 1 enforces.
const stopWait = 10 * time.Minute

// forceAfter is how long an engine that has to stop at a deadline may take after SIGTERM.
const forceAfter = time.Second

// act begins the effect of a decision. Op stays set until its result has come back.
func (s *Supervisor) act(r *replica, d reconcile.Decision) {
	if s.actExternal(r, d.Action) {
		return
	}
	switch d.Action {
	case reconcile.Stage:
		s.stage(r)
	case reconcile.Prepare:
		s.prepare(r)
	case reconcile.Start:
		s.start(r)
	case reconcile.Drain:
		s.beginDrain(r, d.Reason)
	case reconcile.Resume:
		s.endDrain(r)
	case reconcile.Stop:
		s.stop(r, d.Reason)
	case reconcile.Hold:
		s.takeFromPID1(r)
	case reconcile.Clear:
		s.clear(r)
	case reconcile.SetLimits:
		s.setLimits(r)
	case reconcile.Forget:
		s.forget(r)
	case reconcile.Kill:
		s.kill(r)
	case reconcile.Hasten:
		s.hasten(r)
	}
}

// begin marks an action as under way and returns a context that ends when the wish changes.
func (s *Supervisor) begin(r *replica, a reconcile.Action) context.Context {
	ctx, cancel := context.WithCancel(s.ctx)
	r.facts.Op, r.cancelOp = a, cancel
	r.op++
	return ctx
}

// end takes an action's result. It reports whether the result is still of use: a result for a
// former version of the pool is not.
func (s *Supervisor) end(r *replica, gen int) bool {
	r.facts.Op = reconcile.None
	if r.cancelOp != nil {
		r.cancelOp()
		r.cancelOp = nil
	}
	return r.gen == gen && r.facts.Wanted
}

// failed notes why an attempt failed, and when the next is due.
func (s *Supervisor) failed(r *replica, f *registry.Failure) {
	r.facts.Stage, r.facts.Failure, r.facts.RetryAt = reconcile.Failed, f, r.nextAttempt()
}

// nextAttempt counts a failed attempt and returns when the next is due.
func (r *replica) nextAttempt() time.Time {
	wait := retryMax
	if r.attempts < 4 {
		wait = retryFirst << r.attempts
	}
	r.attempts++
	return time.Now().Add(wait)
}

// broke returns what to do when an effect of r fails by a defect.
func (s *Supervisor) broke(r *replica) func(error) {
	gen := r.gen
	return func(err error) {
		s.end(r, gen)
		s.failed(r, registry.AsFailure(err, registry.CodeProvisionFailed, "Report this defect with the log around it."))
		s.settle(r)
	}
}

func (s *Supervisor) start(r *replica) {
	if until := s.beginRun(r); !until.IsZero() {
		r.hold(until, s.Clock.SinceBoot())
		return
	}
	s.anew(r)
	ctx, gen := s.begin(r, reconcile.Start), r.gen
	unit, props, port, op, cancel := r.unit, r.rendered.Properties(), r.port, r.op, r.cancelOp
	r.endpoint = render.Endpoint(port)
	s.Ports.Adopt(r.id, port)
	r.facts.Unit, r.facts.RetryAt = reconcile.Absent, time.Time{}
	if f := s.occupied(r, r.targets); f != nil {
		s.isShort(r, op, gen, f)
		return
	}
	load, need, settling := r.load(), r.need, s.settling(r, time.Now())
	s.Log.Info("starting the engine", s.about(r)...)
	s.effect(func(context.Context) func() {
		defer cancel()
		if f := s.short(ctx, unit, load, need, settling); f != nil {
			return func() {
				s.isShort(r, op, gen, f)
				s.settle(r)
			}
		}
		s.post(func() { s.isEnough(r, op) })
		err := s.startUnit(ctx, unit, props, port)
		st, readErr := s.PID1.Unit(ctx, unit)
		return func() {
			// The job of an engine ends long after PID 1 took it. By then the unit's changes have told all, and
			// another action may be under way.
			if r.op != op || r.facts.Op != reconcile.Start {
				return
			}
			s.end(r, gen)
			if readErr == nil && st.Loaded() {
				s.observe(r, st)
			}
			switch {
			case errors.Is(err, systemd.ErrDisconnected):
				r.facts.RetryAt = time.Now().Add(reconnecting) // what became of the job is seen once PID 1 is heard again
			case err != nil && !r.facts.Exists() && r.facts.Unit != reconcile.Broken:
				s.startFailed(r, err)
			default:
				r.attempts = 0
			}
			s.settle(r)
		}
	}, s.broke(r))
}

// isShort puts a start off for want of memory, or of a GPU that another engine is still on.
func (s *Supervisor) isShort(r *replica, op, gen int, f *registry.Failure) {
	if r.op != op || r.facts.Op != reconcile.Start {
		return
	}
	s.endRun(r)
	if s.end(r, gen) {
		r.facts.Short, r.facts.RetryAt = f, r.nextAttempt()
	}
}

// isEnough ends the wait for memory: the start goes on.
func (s *Supervisor) isEnough(r *replica, op int) {
	if r.op == op && r.facts.Short != nil {
		r.facts.Short = nil
		s.publish(r.entry)
	}
}

// startFailed notes a start that PID 1 never took up. A port that another process holds is not
// asked for again, unless the pool's file names it.
func (s *Supervisor) startFailed(r *replica, err error) {
	s.endRun(r)
	f := registry.AsFailure(err, registry.CodeEngineStartFailed, "Read journalctl -u pool-managerd.")
	s.failed(r, f)
	if r.known && r.want.Port == 0 {
		s.Ports.Release(r.id)
		r.port, r.endpoint = 0, ""
	}
}

// startUnit runs beside the loop. A former unit of the name that has ended is replaced by PID1.Start.
func (s *Supervisor) startUnit(ctx context.Context, unit string, props []systemd.Property, port int) error {
	select {
	case s.starts <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	release := func() { <-s.starts }
	if err := s.PortFree(port); err != nil {
		release()
		return err
	}
	wait, err := s.PID1.Start(ctx, unit, props)
	release()
	if err != nil {
		return err
	}
	return wait(ctx)
}

// takeFromPID1 ends a unit's wait for its restart: the manager starts it when its time has come.
func (s *Supervisor) takeFromPID1(r *replica) {
	r.past.Taken = r.status.NRestarts + 1
	s.mark(r)
	s.putAway(r, reconcile.Hold)
}

func (s *Supervisor) stop(r *replica, why string) {
	s.Log.Info("stopping the engine: "+why, s.about(r)...)
	s.endRun(r)
	r.past.Seen, r.past.Base, r.past.Due, r.past.Taken = 0, 0, false, 0
	s.mark(r)
	s.putAway(r, reconcile.Stop)
}

// putAway has PID 1 stop and forget a unit.
func (s *Supervisor) putAway(r *replica, as reconcile.Action) {
	ctx, gen, unit := s.begin(r, as), r.gen, r.unit
	s.closeIdle(r)
	force := r.forced
	r.forced = false
	s.effect(func(context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, stopWait)
		defer cancel()
		if force {
			stopped := make(chan struct{})
			defer close(stopped)
			s.effects.Go(func() { s.killAfter(ctx, forceAfter, stopped, unit) })
		}
		err := s.PID1.Stop(ctx, unit)
		if err == nil {
			err = s.PID1.Clear(ctx, unit)
		}
		lost := errors.Is(err, systemd.ErrDisconnected)
		if lost { // PID 1 may have done it all the same: look again once it is heard
			sleep(ctx, reconnecting)
		}
		st, readErr := s.PID1.Unit(ctx, unit)
		return func() {
			s.end(r, gen)
			switch {
			case lost:
			case err != nil:
				s.stopFailed(r, err)
			default:
				r.attempts, r.facts.StopErr = 0, nil
			}
			if readErr == nil && (err == nil || lost) {
				s.observe(r, st)
			}
			s.settle(r)
		}
	}, func(err error) {
		s.end(r, gen)
		s.stopFailed(r, err)
		s.settle(r)
	})
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// killAfter kills what is left of a unit that has not stopped in time. Where that fails it is gone already, or PID 1's own stop timeout ends it.
func (s *Supervisor) killAfter(ctx context.Context, wait time.Duration, stopped <-chan struct{}, unit string) {
	select {
	case <-ctx.Done():
	case <-stopped:
	case <-time.After(wait):
		_ = s.guard(func() error { return s.PID1.Kill(ctx, unit) })
	}
}

// stopFailed notes that PID 1 did not stop the unit. What runs goes on until the next attempt.
func (s *Supervisor) stopFailed(r *replica, err error) {
	s.Log.Error("the engine could not be stopped", append(s.about(r), "err", err)...)
	r.facts.StopErr = registry.AsFailure(err, registry.CodeEngineStartFailed, "Try systemctl stop '"+r.unit+"'.")
	r.facts.StopAt = r.nextAttempt()
}

func (s *Supervisor) clear(r *replica) {
	ctx, gen, unit := s.begin(r, reconcile.Clear), r.gen, r.unit
	s.effect(func(context.Context) func() {
		err := s.PID1.Clear(ctx, unit)
		return func() {
			s.end(r, gen)
			if err != nil {
				s.Log.Warn("PID 1 keeps a unit that has ended", append(s.about(r), "err", err)...)
			}
			s.observe(r, systemd.Status{Name: unit})
			s.settle(r)
		}
	}, s.broke(r))
}

func (s *Supervisor) setLimits(r *replica) {
	ctx, gen, unit := s.begin(r, reconcile.SetLimits), r.gen, r.unit
	props, limits := r.rendered.LimitProperties(), r.facts.Spec.Limits
	s.effect(func(context.Context) func() {
		err := s.PID1.SetProperties(ctx, unit, props)
		return func() {
			s.end(r, gen)
			if err != nil {
				s.Log.Error("the limits of the running engine could not be changed; its next start has them", append(s.about(r), "err", err)...)
			} else {
				s.Log.Info("limits were changed while the engine runs", s.about(r)...)
			}
			r.limits = limits
			r.facts.UnitSpec.Limits = limits
			s.settle(r)
		}
	}, s.broke(r))
}

// takeReference keeps PID 1 from forgetting an adopted unit's counters when it ends.
func (s *Supervisor) takeReference(r *replica) {
	unit := r.unit
	s.effect(func(ctx context.Context) func() {
		err := s.PID1.Adopt(ctx, unit)
		return func() {
			if err != nil {
				s.Log.Debug("no reference to the unit", "unit", unit, "err", err)
			}
		}
	}, func(error) {})
}

func (s *Supervisor) forget(r *replica) {
	s.stopHealth(r)
	s.endDrain(r)
	s.Ports.Release(r.id)
	s.unmark(r)
	s.dropHandoff(r)
	delete(r.entry.replicas, r.id)
}
