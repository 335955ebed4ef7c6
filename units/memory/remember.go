package memory

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Many pools start at once when a host boots, and each reading takes a quarter of a megabyte. So
// few are done at a time; a file on a file system that hangs keeps its turn, and the others go on
// without one after a moment.
const (
	maxTurns  = 2
	turnPause = 2 * time.Second
)

// maxFound bounds each of the maps; a host has fewer pools.
const maxFound = 1024

// remembered returns what is known under a key, or waits for the caller that is finding it out.
// Where there is none, done is not nil: this caller finds it out and passes it on, and an estimate
// is kept.
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

// turn waits for a turn, and returns what releases it.
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

// logOnce logs why the need of a pool is not known.
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
	e.log.Info("could not estimate the memory of the pool from its model; it is not checked", "pool_id", p.ID, "engine",
		p.Engine, "reason", reason)
}
