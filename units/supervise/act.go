package supervise

import (
	"context"
	"errors"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// reconnecting is how long a start or a stop waits whose outcome was lost with the connection to
// PID 1. A reconnection takes less.
const reconnecting = time.Second

// stopWait bounds one stop job on top of the unit's own stop timeout, which PID 1 enforces.
const stopWait = 10 * time.Minute

// forceAfter is how long an engine that has to stop at a deadline may take after SIGTERM.
const forceAfter = time.Second

// act begins the effect of a decision.
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
		r.run.endDrain()
	case reconcile.Stop:
		s.stop(r, d.Reason)
	case reconcile.Defer:
		s.deferStart(r)
	case reconcile.Clear:
		s.clear(r)
	case reconcile.SetLimits:
		s.setLimits(r)
	case reconcile.Forget:
		s.forget(r)
	case reconcile.Kill:
		s.kill(r)
	}
}

// broke returns what to do when the call to PID 1 that just began fails by a defect.
func (s *Supervisor) broke(r *replica) func(error) {
	seq := r.job.seq
	return func(err error) {
		if r.job.seq != seq {
			return
		}
		r.job.end()
		r.prep.failed(registry.AsFailure(err, registry.CodeProvisionFailed,
			"Report this defect with the surrounding log."), time.Now())
		s.settle(r)
	}
}

func (s *Supervisor) start(r *replica) {
	if r.prep.need.Over(time.Now()) {
		r.prep.again()
		return
	}
	if until := s.beginRun(r); !until.IsZero() {
		r.wait.set(until, s.o.Clock.SinceBoot())
		return
	}
	rendered := s.beginUnit(r)
	seq, try := r.job.begin(reconcile.Start), r.prep.try
	unit, id, props, port, hold := r.unit.name, r.id, rendered.Properties(), r.unit.port, rendered.Port
	r.unit.endpoint, r.unit.moving, r.unit.raised = render.Endpoint(port), false, r.prep.need.Raised != nil
	s.o.Ports.Adopt(r.id, port)
	r.unit.phase, r.job.startAt = reconcile.Absent, time.Time{}
	if f := s.occupied(r, r.gpu.targets); f != nil {
		s.postponeStart(r, seq, try, f)
		return
	}
	load, need, settling := r.load(), r.prep.need, s.settling(r, time.Now())
	s.o.Log.Info("starting the engine", s.about(r)...)
	s.effect(func(ctx context.Context) func() {
		if f := s.short(ctx, unit, load, need, settling); f != nil {
			return func() {
				s.postponeStart(r, seq, try, f)
				s.settle(r)
			}
		}
		s.post(func() { s.memoryFound(r, seq) })
		err := s.startUnit(ctx, unit, props, func() error { return s.takePort(ctx, id, port, hold) })
		st, readErr := s.o.PID1.Unit(ctx, unit)
		return func() {
			// The job of an engine ends long after PID 1 took it. By then the unit's changes have
			// reported everything, and another action may be under way.
			if !r.job.is(seq, reconcile.Start) {
				return
			}
			r.job.end()
			if readErr == nil && st.Loaded() {
				s.read(r, st)
			}
			switch {
			case errors.Is(err, systemd.ErrDisconnected):
				r.job.startAt = time.Now().Add(reconnecting) // what became of the job is seen once PID 1 is heard again
			case err != nil && !r.unit.phase.Exists() && r.unit.phase != reconcile.Broken:
				s.startFailed(r, err)
			default:
				r.started()
			}
			s.settle(r)
		}
	}, s.broke(r))
}

// postponeStart puts a start off for want of memory, or of a GPU that another engine is still on.
// try is the preparation that was to start.
func (s *Supervisor) postponeStart(r *replica, seq, try int, f *registry.Failure) {
	if !r.job.is(seq, reconcile.Start) {
		return
	}
	s.endRun(r)
	r.job.end()
	if r.prep.try == try && r.wish.asks != reconcile.Unwanted {
		r.job.short, r.job.startAt = f, r.job.nextAttempt(time.Now())
	}
}

// memoryFound ends the wait for memory: the start goes on.
func (s *Supervisor) memoryFound(r *replica, seq int) {
	if r.job.seq == seq && r.job.short != nil {
		r.job.short = nil
		s.show(r.entry)
	}
}

// started takes note that PID 1 has taken the start up: no former attempt counts.
func (r *replica) started() {
	r.job.attempts, r.prep.attempts = 0, 0
}

// startFailed notes a start that PID 1 never took up. A port that another process holds is not
// asked for again, unless the pool's file names it.
func (s *Supervisor) startFailed(r *replica, err error) {
	s.endRun(r)
	f := registry.AsFailure(err, registry.CodeEngineStartFailed, "Read journalctl -u pool-managerd.")
	if s.move(r, "", f) {
		return
	}
	r.prep.failed(f, time.Now())
	if r.wish.known && r.wish.pool.Port == 0 {
		s.o.Ports.Release(r.id)
		r.unit.port, r.unit.endpoint = 0, ""
	}
}

// startUnit runs beside the loop. A former unit of the name that has ended is replaced by
// PID1.Start.
func (s *Supervisor) startUnit(
	ctx context.Context, unit string, props []systemd.Property, takePort func() error,
) error {
	select {
	case s.starts <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	release := func() { <-s.starts }
	if err := takePort(); err != nil {
		release()
		return err
	}
	wait, err := s.o.PID1.Start(ctx, unit, props)
	release()
	if err != nil {
		return err
	}
	return wait(ctx)
}

func (s *Supervisor) stop(r *replica, why string) {
	s.o.Log.Info("stopping the engine: "+why, s.about(r)...)
	s.endRun(r)
	r.past.Runs.Stop()
	s.saveHistory(r)
	unit := r.unit.name
	s.closeIdle(r)
	force := r.run.drain != nil && r.run.drain.forced
	s.stopAndReset(r, reconcile.Stop, func(ctx context.Context) error {
		defer s.mayStop(ctx)()
		if force {
			stopped := make(chan struct{})
			defer close(stopped)
			s.effects.Go(func() { s.killAfter(ctx, forceAfter, stopped, unit) })
		}
		return s.o.PID1.Stop(ctx, unit)
	})
}

// stopAndReset has PID 1 stop and forget a unit.
func (s *Supervisor) stopAndReset(r *replica, as reconcile.Action, stop func(context.Context) error) {
	r.job.begin(as)
	unit, run := r.unit.name, r.unit.status.InvocationID
	s.effect(func(ctx context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, stopWait)
		defer cancel()
		err := stop(ctx)
		if err == nil {
			err = s.o.PID1.Clear(ctx, unit)
		}
		lost := errors.Is(err, systemd.ErrDisconnected)
		if lost { // PID 1 may have done it all the same: look again once it is heard
			sleep(ctx, reconnecting)
		}
		st, readErr := s.o.PID1.Unit(ctx, unit)
		return func() {
			r.job.end()
			r.job.unsure = lost
			switch {
			case lost:
				r.wait.ours = r.wait.ours || as == reconcile.Defer // what is found stopped, this manager stopped
			case as == reconcile.Defer && errors.Is(err, systemd.ErrJobExists):
				s.restartBegan(r, run)
			case err != nil:
				s.stopFailed(r, err)
			default:
				r.job.stopErr = nil
				r.started()
			}
			if readErr == nil && (err == nil || lost || errors.Is(err, systemd.ErrJobExists)) {
				s.read(r, st)
			}
			s.settle(r)
		}
	}, func(err error) {
		r.job.end()
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

// killAfter kills what is left of a unit that has not stopped in time. Where that fails it is gone
// already, or PID 1's own stop timeout ends it.
func (s *Supervisor) killAfter(ctx context.Context, wait time.Duration, stopped <-chan struct{}, unit string) {
	select {
	case <-ctx.Done():
	case <-stopped:
	case <-time.After(wait):
		_ = s.guard(func() error { return s.o.PID1.Kill(ctx, unit) })
	}
}

// stopFailed notes that PID 1 did not stop the unit. What runs goes on until the next attempt.
func (s *Supervisor) stopFailed(r *replica, err error) {
	if r.job.stopErr == nil || r.job.stopErr.Message != err.Error() {
		s.o.Log.Error("could not stop the engine", append(s.about(r), "err", err)...)
	}
	hint := "Try systemctl stop '" + r.unit.name + "'."
	if errors.Is(err, systemd.ErrFrozen) { // and it cannot be thawed
		hint = "Its process ended while its unit was frozen (systemctl freeze). Where its slice is frozen, " +
			"systemctl thaw " + pool.Slice + " ends that; a frozen unit without a process is undone at a reboot " +
			"only, and a pool with another name can serve in its place."
	}
	r.job.stopErr = registry.AsFailure(err, registry.CodeEngineStartFailed, hint)
	r.job.stopAt = r.job.nextAttempt(time.Now())
}

func (s *Supervisor) clear(r *replica) {
	r.job.begin(reconcile.Clear)
	unit := r.unit.name
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.Clear(ctx, unit)
		return func() {
			r.job.end()
			if err != nil {
				s.o.Log.Warn("PID 1 did not unload a unit that has ended", append(s.about(r), "err", err)...)
			}
			s.observe(r, systemd.Status{Name: unit})
			s.settle(r)
		}
	}, s.broke(r))
}

func (s *Supervisor) setLimits(r *replica) {
	r.job.begin(reconcile.SetLimits)
	unit := r.unit.name
	props, limits := r.prep.plan.Unit().LimitProperties(), r.prep.spec.Limits
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.SetProperties(ctx, unit, props)
		return func() {
			r.job.end()
			if err != nil {
				s.o.Log.Error("could not change the limits of the running engine; they apply from its next start",
					append(s.about(r), "err", err)...)
			} else {
				s.o.Log.Info("changed the limits of the running engine", s.about(r)...)
			}
			r.unit.limits = limits
			r.unit.spec.Limits = limits
			s.settle(r)
		}
	}, s.broke(r))
}

// takeReference keeps PID 1 from forgetting an adopted unit's counters when it ends.
func (s *Supervisor) takeReference(r *replica) {
	unit := r.unit.name
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.Adopt(ctx, unit)
		return func() {
			if err != nil {
				s.o.Log.Debug("could not take a reference to the unit", append(s.about(r), "unit", unit, "err", err)...)
			}
		}
	}, func(error) {})
}

func (s *Supervisor) forget(r *replica) {
	r.prep.giveUp()
	s.stopHealth(r)
	r.run.endDrain()
	s.o.Ports.Release(r.id)
	s.releasePortsOf(r.id)
	s.carryOver(r)
	if run := r.past.Runs.Run; run != "" {
		s.forgotten[r.unit.name] = run
	}
	s.dropHistory(r)
	delete(r.entry.replicas, r.id)
}
