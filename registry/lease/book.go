package lease

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Book holds every lease of this host. Its methods may be called from any goroutine.
type Book struct {
	now  func() Moment
	save *writer

	mu     sync.Mutex
	pools  map[string]*ledger
	leases map[string]*held
	due    deadlines
	lost   obituary
	wake   chan struct{} // the earliest deadline may have moved
}

// held is a lease and its place among the deadlines.
type held struct {
	Lease
	at int // index in due
}

// ledger is one pool in the book.
type ledger struct {
	known  bool // SetPool told of it; false for leases of a former manager
	state  Pool
	active map[string]int // leases by replica
}

// Open makes a book of the leases that the store holds, as a former manager left them. Run must be called once.
func Open(store Store, now func() Moment) (*Book, error) {
	list, err := store.Load()
	if err != nil {
		return nil, fmt.Errorf("the leases of before: %w", err)
	}
	b := &Book{now: now, save: newWriter(store), pools: make(map[string]*ledger), leases: make(map[string]*held), wake: make(chan struct{}, 1)}
	slices.SortFunc(list, func(x, y Lease) int { return cmp.Compare(x.Expires, y.Expires) }) // about the order in which they were lost
	for _, l := range list {
		if l.Lost != "" {
			b.bury(l.ID, l.Lost)
		} else {
			b.insert(l)
		}
	}
	return b, nil
}

// Acquire takes a slot of the pool: of the replica that is named, or of the open one with the fewest leases for its slots, and of
// equals the first by name. ttl is brought between MinTTL and MaxTTL, 0 is DefaultTTL. It returns when the lease is written
// down. Errors are ErrNoPool, ErrDraining, ErrNotReady, ErrExhausted and ErrStore.
func (b *Book) Acquire(ctx context.Context, pool, replica, holder string, ttl time.Duration) (Lease, error) {
	b.mu.Lock()
	l, err := b.take(pool, replica, holder, bounded(ttl))
	if err != nil {
		b.mu.Unlock()
		return Lease{}, err
	}
	written := b.save.put(l)
	b.mu.Unlock()
	if err := wait(ctx, written); err != nil {
		b.mu.Lock()
		b.remove(l.ID) // nobody knows of it
		b.save.forget(l.ID)
		b.mu.Unlock()
		return Lease{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return l, nil
}

func wait(ctx context.Context, written <-chan error) error {
	select {
	case err := <-written:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take counts a new lease; the caller holds the lock.
func (b *Book) take(pool, replica, holder string, ttl time.Duration) (Lease, error) {
	p := b.pools[pool]
	if p == nil || !p.known {
		return Lease{}, ErrNoPool
	}
	if p.state.Draining {
		return Lease{}, ErrDraining
	}
	seat, err := p.choose(replica)
	if err != nil {
		return Lease{}, err
	}
	l := Lease{ID: newID(), Pool: pool, Replica: seat.Replica, Run: seat.Run, Holder: holder, Endpoint: seat.Endpoint, Expires: b.now().Add(ttl)}
	b.insert(l)
	return l, nil
}

// choose picks the least loaded open replica.
func (p *ledger) choose(replica string) (Seat, error) {
	var best Seat
	found, open := false, false
	for _, s := range p.state.Seats {
		if !s.Open || replica != "" && s.Replica != replica {
			continue
		}
		open = true
		if p.active[s.Replica] >= s.Slots {
			continue
		}
		if !found || p.less(s, best) {
			best, found = s, true
		}
	}
	switch {
	case found:
		return best, nil
	case open:
		return Seat{}, ErrExhausted
	}
	return Seat{}, ErrNotReady
}

// less reports whether a is less loaded than b: by the share of its slots that is held, then by name.
func (p *ledger) less(a, b Seat) bool {
	x, y := p.active[a.Replica]*b.Slots, p.active[b.Replica]*a.Slots
	if x != y {
		return x < y
	}
	return shorterFirst(a.Replica, b.Replica)
}

// shorterFirst orders r2 before r10.
func shorterFirst(a, b string) bool {
	if len(a) != len(b) {
		return len(a) < len(b)
	}
	return a < b
}

// Renew lets a lease live for another ttl from now, in a drain only up to its deadline. Errors are ErrUnknown, a *LostError
// and ErrStore.
func (b *Book) Renew(ctx context.Context, pool, id string, ttl time.Duration) (Lease, error) {
	b.mu.Lock()
	h, err := b.find(pool, id)
	if err != nil {
		b.mu.Unlock()
		return Lease{}, err
	}
	was := h.Expires
	h.Expires = b.now().Add(bounded(ttl))
	if until := b.pools[pool].state.RenewUntil; until != 0 && h.Expires > until {
		h.Expires = until
	}
	heap.Fix(&b.due, h.at)
	l := h.Lease
	written := b.save.put(l)
	b.nudge()
	b.mu.Unlock()
	if err := wait(ctx, written); err != nil {
		b.mu.Lock()
		if h := b.leases[id]; h != nil && h.Expires == l.Expires {
			h.Expires = was
			heap.Fix(&b.due, h.at)
		}
		b.mu.Unlock()
		return Lease{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return l, nil
}

// Release gives a slot back. Giving back what is not held, any more or ever, is no error.
func (b *Book) Release(ctx context.Context, pool, id string) error {
	b.mu.Lock()
	h := b.leases[id]
	if h == nil || h.Pool != pool {
		b.mu.Unlock()
		return nil
	}
	b.remove(id)
	written := b.save.drop(id)
	b.mu.Unlock()
	if err := wait(ctx, written); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	return nil
}

// find returns a lease of the pool; the caller holds the lock.
func (b *Book) find(pool, id string) (*held, error) {
	if h := b.leases[id]; h != nil && h.Pool == pool {
		return h, nil
	}
	if why, ok := b.lost.of(id); ok {
		return nil, &LostError{ID: id, Why: why}
	}
	return nil, ErrUnknown
}

// insert counts a lease; the caller holds the lock, or nobody else has the book yet.
func (b *Book) insert(l Lease) {
	p := b.pools[l.Pool]
	if p == nil {
		p = &ledger{active: make(map[string]int)}
		b.pools[l.Pool] = p
	}
	p.active[l.Replica]++
	h := &held{Lease: l}
	b.leases[l.ID] = h
	heap.Push(&b.due, h)
	b.nudge()
}

// remove counts a lease out; the caller holds the lock.
func (b *Book) remove(id string) {
	h := b.leases[id]
	if h == nil {
		return
	}
	delete(b.leases, id)
	heap.Remove(&b.due, h.at)
	if p := b.pools[h.Pool]; p.active[h.Replica] > 1 {
		p.active[h.Replica]--
	} else {
		delete(p.active, h.Replica)
	}
}

func bounded(ttl time.Duration) time.Duration {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	return min(max(ttl, MinTTL), MaxTTL)
}
