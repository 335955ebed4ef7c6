package main

import (
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
)

// leases connects the book of leases to the registry, which shows free slots, and to the log.
type leases struct {
	book     *lease.Book
	registry *registry.Registry
	log      *slog.Logger
}

// bootTime is CLOCK_BOOTTIME.
func bootTime() lease.Moment {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // cannot fail: Linux has this clock since 2.6.39
	return lease.Moment(t.Nano())
}

// SetPool implements supervise.Leases.
func (l leases) SetPool(id string, p lease.Pool, why func(replica string) string) {
	l.report(l.book.SetPool(id, p, why))
}

// Forget implements supervise.Leases.
func (l leases) Forget(id string) { l.report(l.book.Forget(id)) }

// Active implements supervise.Leases.
func (l leases) Active(pool, replica string) int { return l.book.Active(pool, replica) }

// Cut implements supervise.Leases.
func (l leases) Cut(pool, replica, why string) { l.report(l.book.Cut(pool, replica, why)) }

// holder returns the name of a lease's holder for messages.
func holder(name string) string {
	if name == "" {
		return "an unnamed holder"
	}
	return name
}

// report logs leases that ended before they were released, and updates the count of free slots.
func (l leases) report(ended []lease.Ended) {
	seen := make(map[string]bool)
	for _, e := range ended {
		seen[e.Pool] = true
		l.registry.Note(registry.Event{Kind: registry.KindLease, PoolID: e.Pool, ReplicaID: e.Replica,
			Cause: fmt.Sprintf("lease %s of %s ended: %s", e.ID, holder(e.Holder), e.Why)})
		l.log.Info(fmt.Sprintf("a lease of %s/%s ended: %s", e.Pool, e.Replica, e.Why),
			"pool_id", e.Pool, "replica_id", e.Replica, "lease_id", e.ID, "holder", e.Holder, "reason", e.Why)
	}
	for id := range seen {
		l.registry.LeasesChanged(id)
	}
}
