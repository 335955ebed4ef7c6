package lease

import (
	"slices"
	"strings"
)

// ledger is what the book has of one pool.
type ledger struct {
	known  bool // SetPool was called; false for leases of a former manager
	state  Pool
	active map[string]int           // leases by replica
	held   map[run]map[string]*held // leases by id, by the run of the engine that they are of
}

// run is one process of a replica's engine.
type run struct{ replica, id string }

func newLedger() *ledger {
	return &ledger{active: make(map[string]int), held: make(map[run]map[string]*held)}
}

// ledger returns a pool's ledger and makes it where there is none; the caller holds the lock.
func (b *Book) ledger(pool string) *ledger {
	p := b.pools[pool]
	if p == nil {
		p = newLedger()
		b.pools[pool] = p
	}
	return p
}

func (p *ledger) add(h *held) {
	r := run{h.Replica, h.Run}
	if p.held[r] == nil {
		p.held[r] = make(map[string]*held)
	}
	p.held[r][h.ID] = h
	p.active[h.Replica]++
}

func (p *ledger) drop(h *held) {
	delete(p.held[run{h.Replica, h.Run}], h.ID)
	if p.active[h.Replica]--; p.active[h.Replica] == 0 {
		delete(p.active, h.Replica)
	}
}

// of lists the leases of the runs that match, by id.
func (p *ledger) of(match func(run) bool) []*held {
	var list []*held
	for r, leases := range p.held {
		if match(r) {
			for _, h := range leases {
				list = append(list, h)
			}
		}
	}
	slices.SortFunc(list, func(x, y *held) int { return strings.Compare(x.ID, y.ID) })
	return list
}

func anyRun(run) bool { return true }

// runs reports whether that process of the replica is the one that runs.
func (p *Pool) runs(r run) bool {
	for i := range p.Seats {
		if p.Seats[i].Replica == r.replica {
			return p.Seats[i].Run == r.id
		}
	}
	return r.id == ""
}

// SetPool records what a pool is now. Leases of a process that has ended are lost; why returns the
// sentence that their holders get. RenewUntil bounds later renewals; a lease that lives longer
// already is for Cut. The cost does not depend on how many leases are held, only on how many end.
func (b *Book) SetPool(id string, p Pool, why func(replica string) string) []Ended {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.ledger(id)
	l.known, l.state = true, p
	var ended []Ended
	for _, h := range l.of(func(r run) bool { return !p.runs(r) }) {
		ended = append(ended, b.lose(h, why(h.Replica)))
	}
	for r, leases := range l.held {
		if len(leases) == 0 && !p.runs(r) {
			delete(l.held, r)
		}
	}
	return ended
}

// Cut ends every lease of a replica: its drain's deadline has passed.
func (b *Book) Cut(pool, replica, why string) []Ended {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.loseAll(pool, why, func(r run) bool { return r.replica == replica })
}

// Forget drops a pool that was removed, and its leases with it.
func (b *Book) Forget(pool string) []Ended {
	b.mu.Lock()
	defer b.mu.Unlock()
	ended := b.loseAll(pool, "the pool was removed", anyRun)
	delete(b.pools, pool)
	return ended
}

// loseAll ends the leases of the runs that match; the caller holds the lock.
func (b *Book) loseAll(pool, why string, match func(run) bool) (ended []Ended) {
	if p := b.pools[pool]; p != nil {
		for _, h := range p.of(match) {
			ended = append(ended, b.lose(h, why))
		}
	}
	return ended
}

// lose ends a lease before its holder released it; the caller holds the lock.
func (b *Book) lose(h *held, why string) Ended {
	why = strings.ToValidUTF8(why[:min(len(why), maxReason)], "")
	b.remove(h.ID)
	b.remember(h.ID, why)
	gone := h.Lease
	gone.Lost = why
	b.save.keep(gone) // where that fails, the next manager finds the run over, or the deadline past
	return Ended{Lease: h.Lease, Why: why}
}

// remember keeps why a lease ended; the caller holds the lock, or is the only one with the book.
func (b *Book) remember(id, why string) {
	if forgotten := b.lost.add(id, why); forgotten != "" {
		b.save.forget(forgotten, "")
	}
}

// Active returns how many leases a replica has.
func (b *Book) Active(pool, replica string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.pools[pool]; p != nil {
		return p.active[replica]
	}
	return 0
}

// Leases lists a pool's leases by id.
func (b *Book) Leases(pool string) []Lease {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := []Lease{}
	if p := b.pools[pool]; p != nil {
		for _, h := range p.of(anyRun) {
			list = append(list, h.Lease)
		}
	}
	return list
}
