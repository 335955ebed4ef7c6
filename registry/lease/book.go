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

// Book has every lease of this host. Its methods may be called from any goroutine.
type Book struct {
	now  func() Moment
	save *writer

	mu     sync.Mutex
	pools  map[string]*ledger
	leases map[string]*held
	due    deadlines
	lost   reasons
	wakes  Moment        // when Run checks the deadlines next
	wake   chan struct{} // makes it check now
}

// held is a lease and its index among the deadlines.
type held struct {
	Lease
	at int // index in due; -1: not there
}

// Open returns a book with the leases in the store, which a former manager left. Run must be called
// once. changed is called with each pool whose leases changed, before the callers get their answers
// and once for all leases written together; it may be nil.
func Open(store Store, now func() Moment, changed func(pool string)) (*Book, error) {
	list, err := store.Load()
	if err != nil {
		return nil, fmt.Errorf("read the leases: %w", err)
	}
	b := &Book{now: now, save: newWriter(store, changed), pools: make(map[string]*ledger),
		leases: make(map[string]*held), wakes: never, wake: make(chan struct{}, 1)}
	// This is roughly the order in which they were lost.
	slices.SortFunc(list, func(x, y Lease) int { return cmp.Compare(x.Expires, y.Expires) })
	for _, l := range list {
		if l.Lost != "" {
			b.remember(l.ID, l.Lost)
		} else {
			b.insert(l)
		}
	}
	return b, nil
}

// Acquire takes a slot of the pool: of the named replica, or of the least loaded open one (the
// first of equals by name). ttl is limited to MinTTL and MaxTTL, 0 is DefaultTTL. It returns when
// the lease is written. Errors are ErrNoPool, ErrDraining, ErrNotReady, ErrExhausted and ErrStore;
// no slot is taken after an error.
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
		b.remove(l.ID) // its caller does not have it
		b.save.forget(l.ID, pool)
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
	l := Lease{ID: newID(), Pool: pool, Replica: seat.Replica, Run: seat.Run, Holder: holder,
		Endpoint: seat.Endpoint, Expires: b.now().Add(ttl)}
	b.insert(l)
	return l, nil
}

// Renew extends a lease to ttl from now, during a drain only up to its deadline. Errors are
// ErrUnknown, a *LostError and ErrStore; after an error the lease keeps its former deadline.
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
	b.schedule(h)
	l := h.Lease
	written := b.save.put(l)
	b.mu.Unlock()
	if err := wait(ctx, written); err != nil {
		b.mu.Lock()
		if h := b.leases[id]; h != nil && h.Expires == l.Expires {
			h.Expires = was
			b.schedule(h)
		}
		b.mu.Unlock()
		return Lease{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return l, nil
}

// Release releases the slot of a lease. Releasing an unknown lease is no error. After ErrStore the
// slot is free too, but the lease may be there again after a restart: calling it again tries to
// write that it has ended.
func (b *Book) Release(ctx context.Context, pool, id string) error {
	b.mu.Lock()
	h := b.leases[id]
	if h == nil && !b.save.owes(id) || h != nil && h.Pool != pool {
		b.mu.Unlock()
		return nil
	}
	if h != nil {
		b.remove(id)
	}
	written := b.save.drop(id, pool)
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

// insert counts a lease; the caller holds the lock, or is the only user of the book.
func (b *Book) insert(l Lease) {
	h := &held{Lease: l, at: -1}
	b.leases[l.ID] = h
	b.ledger(l.Pool).add(h)
	b.schedule(h)
}

// remove no longer counts a lease; the caller holds the lock.
func (b *Book) remove(id string) {
	h := b.leases[id]
	if h == nil {
		return
	}
	delete(b.leases, id)
	heap.Remove(&b.due, h.at)
	b.pools[h.Pool].drop(h)
}

func bounded(ttl time.Duration) time.Duration {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	return min(max(ttl, MinTTL), MaxTTL)
}
