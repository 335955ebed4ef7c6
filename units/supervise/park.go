package supervise

import (
	"context"
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// Drain stops new work for a pool at once, and stops it when no work is left or the deadline has
// passed; it stays stopped, over restarts and reboots, until Resume. deadline counts from now,
// negative: the pool's own. Of two drains the nearer deadline holds. It returns when this is
// written down: ErrNoSuchPool, a *registry.Failure, or the context's error say that it is not.
func (s *Supervisor) Drain(ctx context.Context, id string, deadline time.Duration, by string) error {
	return s.drainAs(ctx, id, deadline, keep.Drain{By: by, Correlation: registry.Correlation(ctx)})
}

// DrainUntilRestart drains a pool as Drain does, until another manager starts.
func (s *Supervisor) DrainUntilRestart(ctx context.Context, id string, deadline time.Duration, by string) error {
	return s.drainAs(ctx, id, deadline, keep.Drain{By: by, UntilRestart: true,
		Correlation: registry.Correlation(ctx)})
}

func (s *Supervisor) drainAs(ctx context.Context, id string, deadline time.Duration, ask keep.Drain) error {
	return s.carryOut(ctx, id, func(e *entry, was keep.Intent) (keep.Intent, func(), error) {
		return s.draining(e, was, deadline, ask), func() { s.reportDrain(e, "drained", ask.By, ask.Correlation) }, nil
	})
}

// Restart drains a pool as Drain does, and starts it again once it has stopped. A pool that is
// drained already stays so.
func (s *Supervisor) Restart(ctx context.Context, id, by string) error {
	ask := keep.Drain{By: by, Restart: true, Correlation: registry.Correlation(ctx)}
	return s.carryOut(ctx, id, func(e *entry, was keep.Intent) (keep.Intent, func(), error) {
		return s.draining(e, was, -1, ask), func() {
			s.reportDrain(e, "restarted", by, ask.Correlation)
		}, nil
	})
}

// draining is the intent of a pool that is drained, too.
func (s *Supervisor) draining(e *entry, was keep.Intent, deadline time.Duration, ask keep.Drain) keep.Intent {
	if deadline < 0 {
		deadline = e.desired.Drain.Deadline
	}
	d := &ask
	d.Since, d.Deadline = time.Now().Round(0), s.o.Clock.In(deadline)
	if was.Drain != nil {
		kept := *was.Drain
		kept.Restart, kept.UntilRestart = kept.Restart && ask.Restart, kept.UntilRestart && ask.UntilRestart
		if s.o.Clock.Left(d.Deadline) < s.o.Clock.Left(kept.Deadline) {
			kept.Deadline, kept.By, kept.Correlation = d.Deadline, ask.By, ask.Correlation
		}
		d = &kept
	}
	was.Drain = d
	was.Rejected = acknowledged(was.Rejected)
	if was.Reload != nil {
		was.Reload = cancelled(was.Reload, "the pool was drained")
	}
	return was
}

// Resume ends a drain at any point, and starts again what was stopped, by a drain or by hand.
// Errors are as for Drain.
func (s *Supervisor) Resume(ctx context.Context, id, by string) error {
	return s.carryOut(ctx, id, func(e *entry, was keep.Intent) (keep.Intent, func(), error) {
		was.Drain, was.Rejected = nil, acknowledged(was.Rejected)
		return was, func() {
			s.reportDrain(e, "resumed", by, registry.Correlation(ctx))
			for _, r := range e.sorted() {
				r.wish.revive = r.unit.phase == reconcile.Exited
				s.settle(r)
			}
		}, nil
	})
}

// acknowledged forgets a reload that an operator had asked for, and that was gone back from, when
// someone asks for something else. What the pool's file asks for stays reported: it is not in
// force.
func acknowledged(r *keep.Rejected) *keep.Rejected {
	if r != nil && !r.ByFile {
		return nil
	}
	return r
}

// reportDrain reports who drained or resumed a pool.
func (s *Supervisor) reportDrain(e *entry, what, by, correlation string) {
	s.o.Registry.Note(registry.Event{Kind: registry.KindDrain, PoolID: e.id, State: e.last.State,
		Cause: what + " by " + who(by), Correlation: correlation})
	attrs := append(caused(e.about(), correlation), "identity", by)
	if d := e.intent.Drain; d != nil {
		attrs = append(attrs, "deadline_ms", s.o.Clock.Left(d.Deadline).Milliseconds())
	}
	s.o.Log.Info(fmt.Sprintf("pool %s is %s by %s", e.id, what, who(by)), attrs...)
}

// who is someone who asks, for people.
func who(by string) string {
	if by == "" {
		return "an operator"
	}
	return by
}

// updateDrain brings what is known of a pool's drain up to its intent.
func (s *Supervisor) updateDrain(e *entry) {
	d := e.intent.Drain
	if d == nil {
		e.drainUntil = time.Time{}
		return
	}
	e.drainUntil = time.Now().Add(s.o.Clock.Left(d.Deadline))
	for _, r := range e.replicas {
		s.nearer(r, e.drainUntil)
	}
}

// parked reports whether an operator drained the pool.
func (e *entry) parked() bool { return e.intent.Drain != nil }

// finishDrain sees to a pool whose drain has come to its end: it resumes one that was only to be
// restarted. Before PID 1's units are known, nothing of any pool seems to run.
func (s *Supervisor) finishDrain(e *entry) {
	if !e.parked() || e.saving || !s.connected || time.Now().Before(e.saveAfter) {
		return
	}
	for _, r := range e.replicas {
		if r.unit.phase.Exists() || r.unit.phase == reconcile.Stopping || r.job.action != reconcile.None {
			return
		}
	}
	if e.intent.Drain.Restart {
		next := e.intent
		next.Drain = nil
		s.save(e, next, func(err error) {
			if err != nil {
				e.saveAfter = time.Now().Add(saveAgain)
				s.wakeAt(e, e.saveAfter)
			}
		})
	}
}

// killLate ends an engine whose stop at a deadline a former manager had begun, and did not live to
// end by force.
func (s *Supervisor) killLate(r *replica) {
	late := r.unit.phase == reconcile.Stopping && r.job.action == reconcile.None && r.drainCut() != nil
	if !late || r.run.killed {
		return
	}
	r.run.killed = true
	unit := r.unit.name
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.Kill(ctx, unit)
		return func() {
			if err != nil { // gone already, or PID 1's own stop timeout ends it
				s.o.Log.Debug("could not kill the engine", append(s.about(r), "unit", unit, "err", err)...)
			}
		}
	}, func(error) {})
}

// showIntent publishes what operators ask of a pool, and how far a reload has come.
func (e *entry) showIntent(p *registry.Pool) {
	p.Correlation = e.correlation()
	if d := e.intent.Drain; d != nil {
		p.Drain = &registry.Drain{Since: d.Since, Until: e.drainUntil, Restart: d.Restart}
	}
	if o := e.intent.Override; o != nil {
		p.Override = &registry.Override{ModelID: string(o.Model), Digest: o.Digest, Since: o.Since}
	}
	if r := e.intent.Reload; r != nil {
		p.Reload = &registry.Reload{ModelID: string(r.To.Model), Phase: string(r.Phase), Since: r.Began, Back: r.Back()}
	}
}

// drainCut is what the deadline of the drain cut that the replica is stopped for; nil: nothing, or
// there is no such drain.
func (r *replica) drainCut() *registry.Failure {
	if !r.wish.parked {
		return nil
	}
	return r.entry.recordedCut()
}

// recordedCut is what a drain's deadline cut, as it is written down.
func (e *entry) recordedCut() *registry.Failure {
	if d := e.intent.Drain; d != nil && d.Timeout != "" {
		return registry.Fail(registry.CodeDrainTimeout, d.Timeout, drainHint)
	}
	return nil
}
