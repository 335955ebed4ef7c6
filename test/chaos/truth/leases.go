package truth

import (
	"maps"
	"slices"
	"time"
)

// slack is what a lease's end may differ from its time to live, for the way of an answer.
const slack = time.Second

// held is a lease that its holder has, as far as the holder knows.
type held struct {
	pool, holder string
	until        time.Duration // it cannot have expired before
}

// leases holds that each lease that was granted is there until it is released, is lost or expires,
// that none is granted twice, and that the manager's count is that of the holders.
type leases struct {
	held   map[string]held // by id
	known  map[string]bool // ids that were granted
	maybe  map[string]bool // holders whose last request got no answer, or whose engine ended
	may    map[string]int  // of this round
	refuse bool            // of this round
}

func newLeases() *leases {
	return &leases{held: make(map[string]held), known: make(map[string]bool), maybe: make(map[string]bool)}
}

func (l *leases) see(r Record) []Violation {
	switch {
	case r.Begin != nil:
		l.may, l.refuse = maps.Clone(r.Begin.May), r.Begin.Refuses
	case r.Lease != nil:
		return l.answered(*r.Lease, r.At)
	case r.Settled != nil:
		return l.count(r.Settled, r.At)
	}
	return nil
}

func (l *leases) answered(a Lease, now time.Duration) (found []Violation) {
	switch a.Did {
	case Granted:
		if l.known[a.ID] {
			found = append(found, wrong(RuleLease, a.Pool, "%s was granted to %s, and before", a.ID, a.Holder))
		}
		l.known[a.ID] = true
		l.held[a.ID] = held{a.Pool, a.Holder, a.Sent + a.TTL - slack}
	case Renewed:
		h, ok := l.held[a.ID]
		if !ok {
			return []Violation{wrong(RuleLease, a.Pool, "%s was renewed, though its end was answered before", a.ID)}
		}
		h.until = a.Sent + a.TTL - slack
		l.held[a.ID] = h
	case Released:
		l.forget(a)
	case Lost:
		h, ok := l.held[a.ID]
		_, allowed := l.may[a.Pool]
		if ok && !allowed && a.Asked == Renewed && now < h.until {
			found = append(found, wrong(RuleLease, a.Pool, "%s of %s was lost (%s) %s before it expires", a.ID,
				a.Holder, a.Code, h.until-now))
		}
		l.forget(a)
	case Refused:
		if a.Code == "STATE_NOT_SAVED" && !l.refuse {
			found = append(found, wrong(RuleLease, a.Pool, "STATE_NOT_SAVED, though no disk was full or read-only"))
		}
		if a.Asked == Released { // its slot is free, and it may be there again after a restart
			l.open(a)
		}
	case Unknown:
		l.open(a)
	}
	return found
}

// open leaves open whether a lease is there.
func (l *leases) open(a Lease) {
	l.maybe[a.Holder] = true
	if a.Asked == Released {
		delete(l.held, a.ID)
	}
}

// forget is the end of a lease that its holder was informed of.
func (l *leases) forget(a Lease) {
	delete(l.held, a.ID)
	delete(l.maybe, a.Holder)
}

// count compares what is listed with what is held, when no request is under way.
func (l *leases) count(s *Settled, now time.Duration) (found []Violation) {
	listed := make(map[string]Held, len(s.Held))
	counted := make(map[string]int)
	for _, h := range s.Held {
		if was, twice := listed[h.ID]; twice {
			found = append(found, wrong(RuleLease, h.Pool, "%s is listed twice, also in %s", h.ID, was.Pool))
		}
		listed[h.ID] = h
		counted[h.Pool]++
		if _, ok := l.held[h.ID]; !ok && !l.maybe[h.Holder] {
			found = append(found, wrong(RuleLease, h.Pool, "%s of %s is listed, and ended before", h.ID, h.Holder))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(l.held)) {
		h := l.held[id]
		_, allowed := l.may[h.pool]
		if _, ok := listed[id]; !ok && !allowed && now < h.until {
			found = append(found, wrong(RuleLease, h.pool, "%s of %s is not listed, and does not expire for %s", id,
				h.holder, h.until-now))
		}
		if _, ok := listed[id]; !ok {
			delete(l.held, id) // its holder finds out at the next request
		}
	}
	for _, p := range s.Look.Pools {
		if p.Leases != counted[p.ID] {
			found = append(found, wrong(RuleLease, p.ID, "active_leases is %d, %d are listed", p.Leases, counted[p.ID]))
		}
		if free := p.Total - p.Leases; p.Ready && p.Free != free {
			found = append(found, wrong(RuleLease, p.ID, "slots_free is %d, of %d slots %d are leased", p.Free, p.Total,
				p.Leases))
		}
	}
	return found
}
