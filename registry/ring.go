package registry

import (
	"sync"
	"time"
)

// ringSize bounds the events that are kept for late readers.
const ringSize = 1024

// ring keeps the newest ringSize events. It has a lock of its own, so that readers of events and
// writers of pools do not wait for each other.
type ring struct {
	mu     sync.Mutex
	last   uint64 // Seq of the newest
	origin uint64 // the Seq before that of kept[0], when that was added first
	doubt  uint64 // not all numbers up to this one were given to an event
	kept   []Event
	next   chan struct{} // closed and replaced at each event
}

func (g *ring) add(e Event) Event {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	e.Seq = g.last
	if len(g.kept) < ringSize {
		g.kept = append(g.kept, e)
	} else {
		*g.at(e.Seq) = e
	}
	return e
}

// at returns where an event is kept.
func (g *ring) at(seq uint64) *Event { return &g.kept[(seq-1-g.origin)%ringSize] }

// wake wakes all readers that wait for an event.
func (g *ring) wake() {
	g.mu.Lock()
	was := g.next
	g.next = make(chan struct{})
	g.mu.Unlock()
	close(was) // outside the lock, for which each reader comes at once
}

// record numbers and stores the events and calls the observers; the caller holds the write lock.
func (r *Registry) record(events []Event, p *Pool) {
	for _, e := range events {
		switch {
		case e.Kind != "":
		case e.OfDevice():
			e.Kind = KindDevice
		default:
			e.Kind = KindReady
		}
		if e.Correlation == "" && p != nil {
			e.Correlation = p.Correlation
		}
		e = r.events.add(e)
		for _, observe := range r.observe {
			observe(e, p)
		}
	}
	if len(events) > 0 {
		r.events.wake()
	}
}

// Note records an event that is not derived from a written status, of the given Kind. The caller
// logs it.
func (r *Registry) Note(e Event) {
	r.write.Lock()
	defer r.write.Unlock()
	if e.At.IsZero() {
		e.At = time.Now()
	}
	p, _ := r.Find(e.PoolID)
	r.record([]Event{e}, p)
}

// LastEvent is the sequence number of the newest event, 0 before the first.
func (r *Registry) LastEvent() uint64 {
	r.events.mu.Lock()
	defer r.events.mu.Unlock()
	return r.events.last
}

// NextEvent returns a channel that is closed at the next event; no other change closes it. A reader
// takes it before it looks at Events, so that it misses none in between.
func (r *Registry) NextEvent() <-chan struct{} {
	r.events.mu.Lock()
	defer r.events.mu.Unlock()
	return r.events.next
}

// Events returns the kept events after the given sequence number, oldest first. missed is how many
// of those after it are no longer kept, and MissedUnknown if some are not and their number is
// unknown.
func (r *Registry) Events(after uint64) (list []Event, missed int64) {
	g := &r.events
	g.mu.Lock()
	defer g.mu.Unlock()
	oldest := g.last - uint64(len(g.kept)) + 1
	switch {
	case after+1 >= oldest:
	case after < g.doubt:
		missed = MissedUnknown
	default:
		missed = int64(oldest - after - 1)
	}
	for seq := max(after+1, oldest); seq <= g.last; seq++ {
		list = append(list, *g.at(seq))
	}
	return list, missed
}

// MissedUnknown is a number of missed events that is not known.
const MissedUnknown = -1

// Past is what a manager leaves of its events to the next one.
type Past struct {
	Last   uint64  // the newest sequence number
	Doubt  uint64  // not all numbers up to this one were given to an event
	Events []Event // the newest, without a gap up to Last
}

// Continue numbers later events behind those of a former manager, and keeps its events for readers.
// It is called before the first event. Events that do not end at Last are left out.
func (r *Registry) Continue(p Past) {
	g := &r.events
	g.mu.Lock()
	defer g.mu.Unlock()
	kept := p.Events[max(0, len(p.Events)-ringSize):]
	for i := range kept {
		if kept[i].Seq != p.Last-uint64(len(kept)-1-i) {
			kept = nil
			break
		}
	}
	g.kept = append([]Event(nil), kept...)
	g.last, g.origin, g.doubt = p.Last, p.Last-uint64(len(kept)), min(p.Doubt, p.Last)
}

// Past returns what the next manager needs.
func (r *Registry) Past() Past {
	list, _ := r.Events(0)
	r.events.mu.Lock()
	defer r.events.mu.Unlock()
	return Past{Last: r.events.last, Doubt: r.events.doubt, Events: list}
}
