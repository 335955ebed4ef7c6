package memory

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Many pools start at once when a host boots, and each read takes a quarter of a megabyte, so only
// a few run at a time. A file on a hanging file system keeps its slot; others continue without a
// slot after a moment.
const (
	maxTurns  = 2
	turnPause = 2 * time.Second
)

// maxFound bounds each of the maps. A host has fewer pools.
const maxFound = 1024

// remembered returns the cached need of a key, or waits for the caller that is computing it. If
// there is neither, done is not nil: this caller computes the need and passes it to done, which
// caches an estimate.
func (e *Estimator) remembered(ctx context.Context, key string) (need Need, done func(*Need), err error) {
	for {
		e.mu.Lock()
		need, known := e.found[key]
		other, busy := e.busy[key]
		if !known && !busy {
			mine := make(chan struct{})
			e.busy[key] = mine
			e.mu.Unlock()
			return Need{}, func(found *Need) { e.remember(key, *found, mine) }, nil
		}
		e.mu.Unlock()
		if known {
			return need, nil, nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return Need{}, nil, ctx.Err()
		}
	}
}

func (e *Estimator) remember(key string, need Need, mine chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.busy, key)
	close(mine)
	if need.Source != Estimated {
		return
	}
	if len(e.found) >= maxFound {
		clear(e.found)
	}
	e.found[key] = need
}

// turn waits for a slot and returns the function that releases it.
func (e *Estimator) turn(ctx context.Context) func() {
	pause := time.NewTimer(turnPause)
	defer pause.Stop()
	select {
	case e.turns <- struct{}{}:
		return func() { <-e.turns }
	case <-pause.C:
	case <-ctx.Done():
	}
	return func() {}
}

// logOnce logs why the need of a pool is unknown.
func (e *Estimator) logOnce(key string, p pool.Pool, reason error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.logged[key] {
		return
	}
	if len(e.logged) >= maxFound {
		clear(e.logged)
	}
	e.logged[key] = true
	e.log.Info("could not estimate the pool's memory from its model; starting without a check",
		"pool_id", p.ID, "engine", p.Engine, "reason", reason)
}
