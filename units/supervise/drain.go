package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// drainPoll is how often a draining engine is asked whether it still works, and its leases are
// counted.
const drainPoll = 250 * time.Millisecond

// askTimeout bounds one such question: an engine that hangs must not hide that its leases are gone.
const askTimeout = 2 * time.Second

const drainHint = "Raise [drain] deadline, or --deadline of poolctl drain, if requests take longer."

// drain is one drain of one run; it is known by its address.
type drain struct {
	cancel context.CancelFunc
	began  time.Time
	until  time.Time
	over   bool // no work is left, or the deadline has passed
	forced bool // at the deadline: the stop does not wait for the engine

	overdue  bool   // what it holds was still held at the deadline of a reload
	heldThen int    // leases, at that deadline
	busy     int    // requests that the engine works on, as it said last; -1: it has not been asked yet
	unknown  string // why it cannot say; busy is 1 then
}

// beginDrain stops new work, and waits until no one holds a lease and the engine says that it is
// idle, or the deadline.
func (s *Supervisor) beginDrain(r *replica, why string) {
	ctx, cancel := context.WithCancel(s.ctx)
	now := time.Now()
	d := &drain{cancel: cancel, began: now, until: now.Add(r.pool().Drain.Deadline), busy: -1}
	switch {
	case r.wish.parked:
		d.until = r.entry.drainUntil
	case r.wish.role == reconcile.Yield:
		d.until = now.Add(s.o.Clock.Left(r.entry.intent.ReloadUntil))
	}
	r.run.drain, r.last.cut = d, nil
	s.wakeAt(r.entry, d.until)
	s.o.Log.Info("draining the engine: "+why, append(s.about(r), "deadline_ms", d.until.Sub(now).Milliseconds())...)
	adapter, ok := r.adapter()
	endpoint, run, sleeps := r.unit.endpoint, r.run.id, engine.Sleep{}
	if ok {
		sleeps = engine.SleepOf(adapter, r.pool())
	}
	s.effects.Go(func() {
		for ctx.Err() == nil {
			busy, unknown := 0, ""
			if ok && s.wakefulness(ctx, r, run, endpoint, sleeps) != isAsleep {
				err := s.guard(func() error { busy, unknown = s.busy(ctx, r, run, adapter, endpoint); return nil })
				if err != nil {
					busy, unknown = 1, err.Error()
				}
			}
			s.post(func() { s.drainAnswered(r, d, busy, unknown) })
			select {
			case <-ctx.Done():
			case <-time.After(drainPoll):
			}
		}
	})
}

// busy returns the number of requests that an engine works on: 0 for a kind of engine that has no
// such endpoint, whose leases and graceful stop are all there is. One that does not answer, or not
// with a number, may work on some: it counts as one request, and unknown is why.
func (s *Supervisor) busy(ctx context.Context, r *replica, run string, a engine.Adapter,
	endpoint string) (n int, unknown string) {
	if endpoint == "" { // of a former manager, in a unit that has lost its settings
		return 1, "its port is unknown"
	}
	err := s.askEngine(ctx, r, run, question{bounds.OfBusy, endpoint, a.BusyPath(), askTimeout,
		func(body []byte) (err error) {
			n, err = a.Busy(body)
			return err
		}})
	if err == nil || errors.Is(err, errNotAsked) {
		return n, ""
	}
	return 1, whyUnanswered(a.BusyPath(), err)
}

// drainAnswered takes the engine's answer on the loop.
func (s *Supervisor) drainAnswered(r *replica, d *drain, busy int, unknown string) {
	if r.run.drain != d {
		return
	}
	d.busy, d.unknown = busy, unknown
	if s.checkDrain(r, time.Now()) {
		s.settle(r)
	}
}

// checkDrain ends a drain that has nothing left to wait for, and one whose deadline has passed. It
// reports whether it ended.
func (s *Supervisor) checkDrain(r *replica, now time.Time) bool {
	d := r.run.drain
	if d == nil || d.over || r.facts().Resumes() {
		return false
	}
	held := s.leasesOf(r)
	switch {
	case held == 0 && d.busy == 0:
		s.drained(r, d, r.drainCut())
	case now.Before(d.until):
		s.wakeAt(r.entry, d.until)
		return false
	case held == 0 && d.busy < 0 && now.Before(d.began.Add(askTimeout+drainPoll)):
		s.wakeAt(r.entry, d.began.Add(askTimeout+drainPoll))
		return false // it may well be idle: its first answer is on its way
	case r.wish.role == reconcile.Yield && held == 0 && d.unknown != "":
		s.drained(r, d, nil) // or an engine that cannot be asked could never be reloaded; its stop is graceful
	case r.wish.role == reconcile.Yield:
		first := !d.overdue
		d.overdue, d.heldThen = true, held // the reload goes back, and nothing is cut
		return first
	case r.drainCut() != nil:
		// And not carried out: the manager that recorded it ended before the engine did.
		s.drained(r, d, s.cut(r, r.drainCut()))
	case r.wish.parked:
		s.cutPool(r.entry)
		return false
	default:
		s.drained(r, d, s.cut(r, cutShort(held, d.busy, d.unknown)))
	}
	return true
}

// cutPool ends what is held of a pool that an operator drained, at its deadline. How much that is
// is written down first: a manager that is killed in between must not forget it.
func (s *Supervisor) cutPool(e *entry) {
	if e.cutting {
		return
	}
	due := func(r *replica) bool { return r.wish.parked && r.run.draining() && !r.run.drained() }
	leases, requests, unknown := 0, 0, ""
	for _, r := range e.replicas {
		if due(r) {
			leases += s.leasesOf(r)
			if d := r.run.drain; d.unknown != "" {
				unknown = d.unknown
			} else {
				requests += max(d.busy, 0)
			}
		}
	}
	f := cutShort(leases, requests, unknown)
	since := e.intent.Drain.Since
	meant := func(d *keep.Drain) bool {
		return d != nil && d.Since.Equal(since)
	} // it was not resumed meanwhile, nor drained again
	note := func(_ *entry, was keep.Intent) (keep.Intent, func(), error) {
		if meant(was.Drain) {
			noted := *was.Drain
			noted.Timeout = f.Message
			was.Drain = &noted
		}
		return was, nil, nil
	}
	e.cutting = true
	// one that cannot be written down was logged, and the engine has to stop all the same
	s.queue(e, note, func(error) {
		e.cutting = false
		for _, r := range e.sorted() {
			if meant(e.intent.Drain) && due(r) {
				s.drained(r, r.run.drain, s.cut(r, f))
				s.settle(r)
			}
		}
	})
}

// cutShort says what was still held at a deadline, or why it is unknown.
func cutShort(leases, requests int, unknown string) *registry.Failure {
	what := fmt.Sprintf("%s still held at the drain deadline and were cut", were(leases, "lease"))
	switch {
	case leases > 0:
	case unknown != "" && requests == 0:
		return registry.Fail(registry.CodeDrainTimeout,
			"it is unknown whether requests were still under way at the drain deadline: the engine does not report "+
				"them ("+
				unknown+")", unansweredHint)
	default:
		what = fmt.Sprintf("%s still under way at the drain deadline", were(max(requests, 1), "request"))
	}
	return registry.Fail(registry.CodeDrainTimeout, what, drainHint)
}

// cut ends a replica's leases, and returns why.
func (s *Supervisor) cut(r *replica, f *registry.Failure) *registry.Failure {
	if s.leasesOf(r) > 0 {
		s.o.Leases.Cut(r.id.Pool, r.id.Name(), f.Error())
	}
	return f
}

func (s *Supervisor) drained(r *replica, d *drain, f *registry.Failure) {
	d.cancel()
	d.over, d.forced, r.last.cut = true, f != nil, f
	took := time.Since(d.began)
	cause := "no leases or requests are left"
	if d.unknown != "" {
		cause = "no leases are left; it is unknown whether requests are (" + d.unknown + ")"
	}
	if f != nil {
		r.view.lastErr = f
		s.o.Log.Warn(f.Message, append(s.about(r), "last_error", f.Error(), "drain_ms", took.Milliseconds(),
			catalogue.Key, catalogue.DrainCut)...)
	} else {
		s.o.Log.Info("the engine is drained: "+cause,
			append(s.about(r), "drain_ms", took.Milliseconds(), catalogue.Key, catalogue.DrainDone)...)
	}
	if f != nil {
		cause = f.Message
	}
	s.o.Registry.Note(registry.Event{Kind: registry.KindDrain, PoolID: r.id.Pool, ReplicaID: r.id.Name(),
		State: r.view.state, Cause: cause, Failure: f})
	s.o.Observer.Drained(*r.entry.last, took, f != nil)
}

// leasesOf is how many leases the replica has.
func (s *Supervisor) leasesOf(r *replica) int {
	if s.o.Leases == nil {
		return 0
	}
	return s.o.Leases.Active(r.id.Pool, r.id.Name())
}

// nearer brings the deadline of a drain that is under way closer.
func (s *Supervisor) nearer(r *replica, until time.Time) {
	if d := r.run.drain; d != nil && until.Before(d.until) {
		d.until = until
		s.wakeAt(r.entry, until)
	}
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func were(n int, what string) string {
	if n == 1 {
		return "1 " + what + " was"
	}
	return count(n, what) + " were"
}
