package lease

import (
	"slices"
	"strings"
)

// ledger has one pool's leases.
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

// ledger returns a pool's ledger, and creates it if there is none; the caller holds the lock.
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

// runs reports whether that process of the replica is the running one.
func (p *Pool) runs(r run) bool {
	for i := range p.Seats {
		if p.Seats[i].Replica == r.replica {
			return p.Seats[i].Run == r.id
		}
	}
	return r.id == ""
}

// SetPool records a pool's state. Leases of a process that has ended are lost; why returns the
// reason for their holders. RenewUntil limits later renewals; Cut ends leases with a later
// deadline. The cost depends only on how many leases end, not on how many there are.
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

// Cut ends every lease of a replica after its drain's deadline.
func (b *Book) Cut(pool, replica, why string) []Ended {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.loseAll(pool, why, func(r run) bool { return r.replica == replica })
}

// Forget removes a removed pool and its leases.
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
	b.save.keep(gone) // if that fails, the next manager finds that the run or the lease has ended
	return Ended{Lease: h.Lease, Why: why}
}

// remember records why a lease ended; the caller holds the lock, or is the only user of the book.
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
