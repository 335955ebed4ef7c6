package lease

import (
	"container/heap"
	"context"
	"math"
	"time"
)

// expireAtOnce bounds how many leases expire while callers wait for the lock.
const expireAtOnce = 500

// never is after every deadline.
const never Moment = math.MaxInt64

// Run writes leases, expires them at their deadline and reports expired ones, until ctx ends; then
// all acknowledged changes are in the store. report is called without a lock, from one goroutine.
func (b *Book) Run(ctx context.Context, report func([]Ended)) error {
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
			report(ended)
		}
		if len(ended) == expireAtOnce && ctx.Err() == nil {
			continue
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

// expire ends leases that are due, and returns how long to sleep; 0 is until there is a lease.
func (b *Book) expire() (ended []Ended, sleep time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.now()
	for len(b.due) > 0 && b.due[0].Expires <= now && len(ended) < expireAtOnce {
		ended = append(ended, b.lose(b.due[0], "it was not renewed in time"))
	}
	if len(b.due) == 0 {
		b.wakes = never
		return ended, 0
	}
	sleep = min(max(b.due[0].Expires.Sub(now), shortestSleep), longestSleep)
	b.wakes = now.Add(sleep)
	return ended, sleep
}

// schedule updates a lease's place among the deadlines, and wakes Run if it would wake too late;
// the caller holds the lock, or is the only user of the book.
func (b *Book) schedule(h *held) {
	if h.at < 0 {
		heap.Push(&b.due, h)
	} else {
		heap.Fix(&b.due, h.at)
	}
	if h.Expires >= b.wakes {
		return
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}
