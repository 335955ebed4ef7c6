package supervise

import (
	"context"
	"fmt"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// Some engines give up their memory while no one uses them. A request that would wake such an
// engine, or only keep it awake, is not made for its own sake: no test generation, and no question
// at an endpoint that counts as a use.

// wakefulness is what an engine reports of its sleep.
type wakefulness int

const (
	isAwake      wakefulness = iota
	isAsleep                 // it holds no memory, and serves the next request later
	sleepUnknown             // it did not report it
)

// isAsleep asks the engine, without waking it.
func (w *watch) isAsleep(ctx context.Context) wakefulness {
	return w.s.wakefulness(ctx, w.r, w.run, w.endpoint, w.sleeps)
}

// wakefulness runs beside the loop. An engine that does not sleep is awake.
func (s *Supervisor) wakefulness(ctx context.Context, r *replica, run, endpoint string,
	sleeps engine.Sleep) wakefulness {
	if sleeps.Path == "" {
		return isAwake
	}
	asleep := false
	err := s.askEngine(ctx, r, run, question{bounds.OfSleep, endpoint, sleeps.Path, askTimeout,
		func(body []byte) (err error) {
			asleep, err = sleeps.Read(body)
			return err
		}})
	switch {
	case err != nil:
		return sleepUnknown
	case asleep:
		return isAsleep
	}
	return isAwake
}

// setAsleep takes what the engine reported with the newest good probe.
func (q *questions) setAsleep(asleep bool) {
	if asleep != q.asleep {
		q.asleep, q.news = asleep, true
	}
}

// sparesSleep reports whether a test generation would only keep an engine awake: it falls asleep
// when it is not used, and no lease of it is held.
func (w *watch) sparesSleep() bool {
	return w.asleep || w.sleeps.Idle && w.s.leasesOf(w.r) == 0
}

// asleep reports whether the engine that runs sleeps.
func (r *replica) asleep() bool {
	return r.unit.phase == reconcile.Active && r.run.watch != nil && r.run.watch.asleep
}

// asleepReason is the reason of a state in which the engine sleeps.
func (r *replica) asleepReason() string {
	if r.run.watch.sleeps.Idle {
		return "the engine sleeps; the next request wakes it"
	}
	return "the engine sleeps until it is woken by a request to do so"
}

// served asks the engine for the context of one request; 0 where it does not report it. Nothing is
// decided by it, so that an answer that is not believed is only left out.
func (w *watch) served(ctx context.Context) int {
	path, read := engine.ContextOf(w.adapter)
	ctx, cancel := context.WithTimeout(ctx, w.health.Timeout)
	defer cancel()
	body, err := w.s.o.Prober.Get(ctx, w.endpoint+path, bounds.Answer)
	if err != nil {
		return 0
	}
	n, err := read(body)
	if err != nil {
		return 0
	}
	return n
}

// contextKnown takes the context on the loop. It is asked for once in a run.
func (s *Supervisor) contextKnown(w *watch, ctx int) {
	w.askCtx = false
	if w.r.run.watch != w || ctx == 0 {
		return
	}
	w.r.run.ctx, w.news = ctx, true
	if asked := w.r.pool().Ctx; ctx < asked {
		s.o.Log.Warn(fmt.Sprintf("the engine serves a context of %d tokens, less than the %d of the pool file",
			ctx, asked), append(s.about(w.r), "ctx", ctx, "hint", shortContextHint)...)
	}
}

const shortContextHint = "Its memory did not suffice (an engine may lower its context to fit), or the model was " +
	"trained with less: lower ctx or slots, or free memory and restart the pool."

// servedContext is the context that the engine reported in this run; 0: not known.
func (r *replica) servedContext() int {
	if r.unit.phase != reconcile.Active {
		return 0
	}
	return r.run.ctx
}
