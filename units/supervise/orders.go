package supervise

import (
	"context"

	"github.com/pool-managerd/pool-managerd/units/keep"
)

// Keep writes down what operators ask for. Its calls are made beside the loop; Put returns when the
// intent is on disk. Its errors are *registry.Failure.
type Keep interface {
	Put(id string, i keep.Intent) error
}

// order is a change of what is asked of a pool: from what is asked now, what is asked next. It runs
// on the loop. An error refuses it; reported is called when it is in force.
type order func(e *entry, was keep.Intent) (next keep.Intent, applied func(), err error)

// carryOut gives an order for a pool and returns when it is written down and in force. Orders for
// one pool are taken one after another.
func (s *Supervisor) carryOut(ctx context.Context, id string, o order) error {
	return s.onLoop(ctx, id, func(e *entry, answer func(error)) {
		if !e.known {
			answer(e.invalid)
			return
		}
		s.queue(e, o, answer)
	})
}

// onLoop has the loop do something about a pool, and returns what it answers: ErrNoSuchPool where
// there is none, or the context's error.
func (s *Supervisor) onLoop(ctx context.Context, id string, do func(e *entry, answer func(error))) error {
	answer := make(chan error, 1)
	take := func() {
		e := s.entries[id]
		if e == nil || !e.wanted {
			answer <- ErrNoSuchPool
			return
		}
		do(e, func(err error) { answer <- err })
	}
	select {
	case s.events <- take:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// queue takes an order as soon as those before it are written down.
func (s *Supervisor) queue(e *entry, o order, done func(error)) {
	if e.saving {
		e.orders = append(e.orders, func() { s.queue(e, o, done) })
		return
	}
	next, applied, err := o(e, e.intent)
	if err != nil {
		done(err)
		return
	}
	s.save(e, next, func(err error) {
		if err == nil && applied != nil {
			applied()
		}
		done(err)
	})
}

// save writes an intent down, then puts it in force.
func (s *Supervisor) save(e *entry, next keep.Intent, done func(error)) {
	if s.o.Keep == nil {
		s.inForce(e, next)
		done(nil)
		return
	}
	e.saving = true
	s.effect(func(context.Context) func() {
		err := s.o.Keep.Put(e.id, next)
		return func() { s.saved(e, next, err, done) }
	}, func(err error) { s.saved(e, next, err, done) })
}

func (s *Supervisor) saved(e *entry, next keep.Intent, err error, done func(error)) {
	e.saving = false
	if err == nil {
		s.inForce(e, next)
	} else {
		s.o.Log.Error("could not save the request for the pool, so it has no effect", append(e.about(), "err", err)...)
	}
	done(err)
	for len(e.orders) > 0 && !e.saving {
		first := e.orders[0]
		e.orders = e.orders[1:]
		first()
	}
	if err != nil && !e.saving { // what waited for it goes on without
		for _, r := range e.sorted() {
			s.decide(r)
		}
		s.show(e)
	}
	if e.over() && s.entries[e.id] == e {
		s.drop(e)
	}
}

// over reports whether nothing is left of a pool. What is being written down about it comes first,
// or it would stay.
func (e *entry) over() bool { return len(e.replicas) == 0 && !e.wanted && !e.saving }

// drop forgets a pool of which nothing is left, and what was asked of it.
func (s *Supervisor) drop(e *entry) {
	delete(s.entries, e.id)
	s.due.drop(e)
	delete(s.o.Intents, e.id)
	if s.o.Leases != nil {
		s.o.Leases.Forget(e.id)
	}
	s.o.Registry.Remove(e.id)
	s.preloadGone(e)
	s.dirty = true
	if s.o.Keep == nil || e.intent.Empty() {
		return
	}
	s.clearing[e.id] = true
	about := e.about()
	s.effect(func(context.Context) func() {
		if err := s.o.Keep.Put(e.id, keep.Intent{}); err != nil {
			s.o.Log.Error("could not delete the saved requests of a pool that was removed",
				append(about, "err", err)...)
		}
		return func() { delete(s.clearing, e.id) }
	}, func(error) { delete(s.clearing, e.id) })
}

// inForce lets every replica follow what is asked of its pool now.
func (s *Supervisor) inForce(e *entry, next keep.Intent) {
	former := e.intent.Preload
	e.intent = next
	s.preloadInForce(e, former)
	s.updateDrain(e)
	s.assign(e)
	for _, r := range e.sorted() {
		r.updateWish()
		r.updateYield()
		s.decide(r)
	}
	s.show(e)
	s.follow(e)
	s.followPreload(e)
}
