package memory

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Many pools start at once when a host boots, and each reading takes a quarter of a megabyte. So few are done at a time; a file on a file system
// that hangs keeps its turn, and the others go on without one after a moment.
const (
	maxTurns  = 2
	turnPause = 2 * time.Second
)

// maxFound bounds each of the maps; a host has fewer pools.
const maxFound = 1024

// remembered returns what is known under a key, or waits for the one who is finding it out. Where nobody is, done is not nil: the caller finds it
// out and hands it over, an estimate being remembered.
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

// turn waits for a turn, and returns what gives it back.
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

// tell logs once why the need of a pool is not known.
func (e *Estimator) tell(key string, p pool.Pool, reason error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.told[key] {
		return
	}
	if len(e.told) >= maxFound {
		clear(e.told)
	}
	e.told[key] = true
	e.log.Info("the memory that a pool needs is not known from its model, so that is not checked", "pool_id", p.ID, "engine", p.Engine, "reason", reason)
}
