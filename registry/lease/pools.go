package lease

import (
	"context"
	"slices"
	"strings"
)

// SetPool tells what a pool is now. Leases of a replica whose process is another one now, or is gone, are lost; why is the
// sentence that their holders get. RenewUntil bounds the renewals from now on; what lives longer already is for Cut.
func (b *Book) SetPool(id string, p Pool, why func(replica string) string) []Ended {
	b.mu.Lock()
	l := b.pools[id]
	if l == nil {
		l = &ledger{active: make(map[string]int)}
		b.pools[id] = l
	}
	l.known, l.state = true, p
	runs := make(map[string]string, len(p.Seats))
	for _, s := range p.Seats {
		runs[s.Replica] = s.Run
	}
	var ended []Ended
	for _, h := range b.of(id) {
		if runs[h.Replica] != h.Run {
			ended = append(ended, b.lose(h, why(h.Replica)))
		}
	}
	b.mu.Unlock()
	return ended
}

// Cut ends every lease of a replica: its drain's deadline has passed.
func (b *Book) Cut(pool, replica, why string) []Ended {
	b.mu.Lock()
	var ended []Ended
	for _, h := range b.of(pool) {
		if h.Replica == replica {
			ended = append(ended, b.lose(h, why))
		}
	}
	b.mu.Unlock()
	return ended
}

// Forget drops a pool that is no more, and its leases with it.
func (b *Book) Forget(pool string) []Ended {
	b.mu.Lock()
	var ended []Ended
	for _, h := range b.of(pool) {
		ended = append(ended, b.lose(h, "the pool was removed"))
	}
	delete(b.pools, pool)
	b.mu.Unlock()
	return ended
}

// of lists a pool's leases by id; the caller holds the lock.
func (b *Book) of(pool string) []*held {
	var list []*held
	if b.pools[pool] == nil || len(b.pools[pool].active) == 0 {
		return nil
	}
	for _, h := range b.leases {
		if h.Pool == pool {
			list = append(list, h)
		}
	}
	slices.SortFunc(list, func(x, y *held) int { return strings.Compare(x.ID, y.ID) })
	return list
}

// lose ends a lease against its holder's will; the caller holds the lock.
func (b *Book) lose(h *held, why string) Ended {
	b.remove(h.ID)
	b.bury(h.ID, why)
	gone := h.Lease
	gone.Lost = why
	b.save.keep(gone) // where that fails, the next manager finds the run over, or the deadline past
	return Ended{Lease: h.Lease, Why: why}
}

// bury remembers why a lease ended; the caller holds the lock, or nobody else has the book yet.
func (b *Book) bury(id, why string) {
	if forgotten := b.lost.add(id, why); forgotten != "" {
		b.save.forget(forgotten)
	}
}

// Active is how many leases a replica has.
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
	for _, h := range b.of(pool) {
		list = append(list, h.Lease)
	}
	return list
}

// Run expires leases at their time until ctx ends, and tells of each; then everything that was answered is on disk.
// tell is called without a lock, from one goroutine.
func (b *Book) Run(ctx context.Context, tell func([]Ended)) error {
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		b.save.run(ctx)
	}()
	defer func() { <-stopped }()
	timer := newAlarm()
	defer timer.stop()
	for {
		ended, next := b.expire()
		if len(ended) > 0 {
			tell(ended)
		}
		timer.set(next)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-b.wake:
		case <-timer.c():
		}
	}
}

// expire ends what is due, and returns how long the next has.
func (b *Book) expire() (ended []Ended, next Moment) {
	b.mu.Lock()
	now := b.now()
	for len(b.due) > 0 && b.due[0].Expires <= now {
		h := b.due[0]
		ended = append(ended, b.lose(h, "it was not renewed in time"))
	}
	if len(b.due) > 0 {
		next = b.due[0].Expires - now
	}
	b.mu.Unlock()
	return ended, next
}

// nudge has Run look at the deadlines again.
func (b *Book) nudge() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
