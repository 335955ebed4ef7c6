// Package history keeps what each pool was like over the last hour, for people who look at it: its
// figures once a minute, and its last changes of state.
//
// It owns these rows and their bounds. It must not know who asks for them, and decides nothing:
// what is in it is lost with the manager.
package history

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Bounds of what is kept of a pool.
const (
	Every       = time.Minute // between two points
	mostPoints  = 60
	mostChanges = 32
)

// Book is the history of every pool of a registry. Make one with New.
type Book struct {
	registry *registry.Registry

	mu    sync.Mutex
	pools map[string]*rows
}

// rows are those of one pool, oldest first.
type rows struct {
	points  []point
	changes []change
}

// point is a pool's figures at one moment. It is small: a host has a few hundred pools.
type point struct {
	at                 int64   // ms since 1970
	tokens, firstToken float32 // NaN: not known
	total, used        int32   // slots
	leases             int32
	state              uint8 // its place in registry.States
	ready              bool
}

// change is a state that a pool entered.
type change struct {
	at     int64
	state  registry.State
	reason string
	code   registry.Code // of the failure behind it; empty: none
}

// New returns the history of a registry from now on.
func New(r *registry.Registry) *Book {
	b := &Book{registry: r, pools: make(map[string]*rows)}
	r.OnPool(b.changed)
	return b
}

// changed records a pool's new state; nil: the pool is gone, and so is its history.
func (b *Book) changed(id string, p *registry.Pool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p == nil {
		delete(b.pools, id)
		return
	}
	of := b.pools[id]
	if of == nil {
		of = &rows{}
		b.pools[id] = of
	}
	if n := len(of.changes); n > 0 && of.changes[n-1].state == p.State {
		return
	}
	c := change{at: time.Now().UnixMilli(), state: p.State, reason: p.Cause()}
	if p.LastError != nil && !p.Ready {
		c.code = p.LastError.Code
	}
	of.changes = appendBounded(of.changes, c, mostChanges)
}

// Run takes a point of each pool every minute, until ctx ends.
func (b *Book) Run(ctx context.Context) {
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			b.take(time.Now())
		}
	}
}

// take records the figures of each pool.
func (b *Book) take(now time.Time) {
	for _, p := range b.registry.Snapshot().Pools {
		one := pointOf(p, now)
		b.mu.Lock()
		if of := b.pools[p.ID]; of != nil { // else it was removed since
			of.points = appendBounded(of.points, one, mostPoints)
		}
		b.mu.Unlock()
	}
}

func pointOf(p *registry.Pool, now time.Time) point {
	shown := wire.PoolOf(p)
	one := point{at: now.UnixMilli(), tokens: figure(shown.PerfTokensPerS), firstToken: figure(shown.FirstTokenMS),
		total: int32(p.SlotsTotal), leases: int32(p.ActiveLeases), ready: p.Ready,
		state: uint8(max(slices.Index(registry.States(), p.State), 0))}
	for i := range p.Replicas {
		if r := &p.Replicas[i]; r.Ready {
			one.used += int32(r.SlotsTotal - r.SlotsFree)
		}
	}
	return one
}

func figure(v *float64) float32 {
	if v == nil {
		return float32(math.NaN())
	}
	return float32(*v)
}

// appendBounded appends to a list of at most n, from which the oldest is then dropped.
func appendBounded[T any](list []T, one T, n int) []T {
	if len(list) < n {
		return append(list, one)
	}
	copy(list, list[1:])
	list[n-1] = one
	return list
}

// Of returns a pool's history, empty for a pool that has none.
func (b *Book) Of(id string) wire.History {
	out := wire.History{PoolID: id, IntervalMS: Every.Milliseconds(), Points: []wire.HistoryPoint{},
		Changes: []wire.StateChange{}}
	b.mu.Lock()
	defer b.mu.Unlock()
	of := b.pools[id]
	if of == nil {
		return out
	}
	states := registry.States()
	for _, p := range of.points {
		out.Points = append(out.Points, wire.HistoryPoint{AtMS: p.at, State: string(states[p.state]), Ready: p.ready,
			SlotsTotal: int(p.total), SlotsUsed: int(p.used), ActiveLeases: int(p.leases),
			TokensPerS: known(p.tokens), FirstTokenMS: known(p.firstToken)})
	}
	for _, c := range of.changes {
		one := wire.StateChange{AtMS: c.at, State: string(c.state), Reason: c.reason}
		if c.code != "" {
			code := string(c.code)
			one.Code = &code
		}
		out.Changes = append(out.Changes, one)
	}
	return out
}

func known(v float32) *float64 {
	if math.IsNaN(float64(v)) {
		return nil
	}
	out := float64(v)
	return &out
}
