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
	keys   map[string]string // the id of the lease of each key
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
		leases: make(map[string]*held), keys: make(map[string]string), wakes: never, wake: make(chan struct{}, 1)}
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
// first of equals by name). The TTL is limited to MinTTL and MaxTTL. It returns when the lease is
// written. Errors are ErrNoPool, ErrDraining, ErrNotReady, ErrExhausted, ErrKeyUsed and ErrStore;
// no slot is taken after an error.
//
// A caller that did not get the answer asks again with the same key: while the lease is held, the
// same request returns that lease, by the next manager too.
func (b *Book) Acquire(ctx context.Context, ask Ask) (Lease, error) {
	b.mu.Lock()
	if h := b.leases[b.keys[ask.Key]]; h != nil && ask.Key != "" {
		l := h.Lease
		if l.Sum != ask.Sum || l.Pool != ask.Pool {
			b.mu.Unlock()
			return Lease{}, ErrKeyUsed
		}
		written := b.save.put(l) // the first request may not have written it yet
		b.mu.Unlock()
		return l, b.stillHeld(l, wait(ctx, written))
	}
	l, err := b.take(ask)
	if err != nil {
		b.mu.Unlock()
		return Lease{}, err
	}
	written := b.save.put(l)
	b.mu.Unlock()
	if err := wait(ctx, written); err != nil {
		b.mu.Lock()
		b.remove(l.ID) // its caller does not have it
		b.save.forget(l.ID, l.Pool)
		b.mu.Unlock()
		return Lease{}, fmt.Errorf("%w: %w", ErrStore, err)
	}
	return l, nil
}

// stillHeld returns why a lease that was held before it was written again cannot be returned: it
// could not be written, or the first request could not write it and has taken it back.
func (b *Book) stillHeld(l Lease, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrStore, err)
	case b.leases[l.ID] == nil:
		b.save.forget(l.ID, l.Pool)
		return fmt.Errorf("%w: it has ended meanwhile", ErrStore)
	}
	return nil
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
func (b *Book) take(ask Ask) (Lease, error) {
	p := b.pools[ask.Pool]
	if p == nil || !p.known {
		return Lease{}, ErrNoPool
	}
	if p.state.Draining {
		return Lease{}, ErrDraining
	}
	seat, err := p.choose(ask.Replica)
	if err != nil {
		return Lease{}, err
	}
	now := b.now()
	l := Lease{ID: newID(), Pool: ask.Pool, Replica: seat.Replica, Run: seat.Run, Holder: ask.Holder,
		Endpoint: seat.Endpoint, Expires: now.Add(bounded(ask.TTL)), Taken: now, Key: ask.Key, Sum: ask.Sum}
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
	if l.Key != "" {
		b.keys[l.Key] = l.ID
	}
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
	if b.keys[h.Key] == id {
		delete(b.keys, h.Key)
	}
	heap.Remove(&b.due, h.at)
	b.pools[h.Pool].drop(h)
}

func bounded(ttl time.Duration) time.Duration {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	return min(max(ttl, MinTTL), MaxTTL)
}
