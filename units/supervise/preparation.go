package supervise

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// preparation makes what a start needs: it stages the model, prepares the engine and renders the
// unit. It is beside the call to PID 1: while a step hangs, everything else about the replica goes
// on. It knows no unit and no clock.
//
// Each step under way is known by its number, try. A result that carries another number is of a
// step that was given up, and changes nothing. At most one step is under way that was not given up.
type preparation struct {
	try    int
	cancel context.CancelFunc // of the step under way; nil: none is

	stage    reconcile.Step
	prepare  reconcile.Step
	failure  *registry.Failure // of the newest attempt that failed, or of a start that must be prepared again
	retryAt  time.Time         // of a failed attempt: when the next is due; zero: at once
	attempts int               // failed in a row

	download *registry.Staging // of the stage under way; nil: none has begun
	staged   pool.Staged
	readied
	plan *render.Plan   // of the unit, rendered for each call to PID 1; nil: no unit is made
	spec reconcile.Spec // of the plan, or of an external engine; empty until there is one
}

// readied is what a unit is rendered from, beside its pool file and its model.
type readied struct {
	prepared pool.Prepared
	planned  []devices.Target // the wanted mask, resolved
	need     memory.Need
}

// Waits after a failed attempt to stage, prepare, start or stop: doubled each time. A model that is
// copied into place late is found within retryMax.
const (
	retryFirst = 2 * time.Second
	retryMax   = 30 * time.Second
)

// retryAfter is the wait after a failed attempt that followed on others.
func retryAfter(attempts int) time.Duration {
	if attempts >= 4 {
		return retryMax
	}
	return retryFirst << attempts
}

// beginStage begins to stage the model, and returns the number of the step. cancel ends it.
func (p *preparation) beginStage(cancel context.CancelFunc) (try int) {
	p.giveUp()
	p.stage, p.prepare, p.cancel = reconcile.Running, reconcile.Pending, cancel
	return p.try
}

// beginPrepare begins to prepare the engine for the model that is staged.
func (p *preparation) beginPrepare(cancel context.CancelFunc) (try int) {
	p.giveUp()
	p.prepare, p.cancel = reconcile.Running, cancel
	return p.try
}

// current reports whether a result is of the step under way.
func (p *preparation) current(try int) bool { return p.try == try && p.cancel != nil }

// end lets go of the step under way.
func (p *preparation) end() {
	p.download = nil
	if p.cancel != nil {
		p.cancel()
		p.cancel = nil
	}
}

// stageDone takes a staged model.
func (p *preparation) stageDone(staged pool.Staged) {
	p.end()
	p.staged, p.stage = staged, reconcile.Done
}

// done takes the plan of a unit, after which the replica may start.
func (p *preparation) done(r readied, plan *render.Plan) {
	p.external(plan.SpecHash)
	p.readied, p.plan = r, plan
}

// external is done without a plan: the engine is not run here. The hash stands for that of a plan.
func (p *preparation) external(hash string) {
	p.end()
	p.readied, p.plan, p.spec = readied{}, nil, parseSpec(hash)
	p.prepare, p.failure, p.retryAt = reconcile.Done, nil, time.Time{}
}

// failed takes why a step failed, or why a start needs another preparation. The next attempt begins
// with the model.
func (p *preparation) failed(f *registry.Failure, now time.Time) {
	p.end()
	p.stage, p.failure, p.retryAt = reconcile.Failed, f, now.Add(retryAfter(p.attempts))
	p.attempts++
	if p.prepare == reconcile.Running {
		p.prepare = reconcile.Pending
	}
}

// giveUp cancels the step under way. One that ignores it goes on, and its result is dropped.
func (p *preparation) giveUp() {
	p.try++
	p.end()
	if p.stage == reconcile.Running {
		p.stage = reconcile.Pending
	}
	if p.prepare == reconcile.Running {
		p.prepare = reconcile.Pending
	}
}

// restart asks for all of it again, because the desired version changed.
func (p *preparation) restart() {
	p.giveUp()
	p.stage, p.prepare, p.failure = reconcile.Pending, reconcile.Pending, nil
	p.forgetAttempts()
}

// again asks for another rendering of what is staged.
func (p *preparation) again() {
	p.giveUp()
	p.prepare, p.failure = reconcile.Pending, nil
	p.forgetAttempts()
}

// forgetAttempts makes the next attempt due at once, and its wait the shortest.
func (p *preparation) forgetAttempts() { p.attempts, p.retryAt = 0, time.Time{} }

// hasFailed reports whether the newest attempt failed.
func (p *preparation) hasFailed() bool { return p.stage == reconcile.Failed }
