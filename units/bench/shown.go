package bench

import (
	"maps"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// Shown is what is known of a pool's measurements.
type Shown struct {
	Run      *ShownRun // that was asked for; nil: none
	Replicas []ShownReplica
}

// ShownRun is a run that an operator asked for.
type ShownRun struct {
	ID, State, Replica string
	Step, Steps        int
	Since              time.Time
	Failure            *registry.Failure
}

// ShownReplica is an engine of the pool that serves, or served last.
type ShownReplica struct {
	Target Target
	Row    *perf.Row // nil: it was never measured
	Waits  string    // why its measurement is not made yet; empty: none is due
}

// Shown returns what is known of a pool's measurements.
func (b *Bench) Shown(id string) Shown {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pools[id]
	if p == nil {
		return Shown{}
	}
	var out Shown
	if a := p.asked; a != nil {
		out.Run = &ShownRun{ID: a.id, State: a.state, Step: a.step, Steps: a.steps, Since: a.since, Failure: a.failure}
		if a.state == StateRunning {
			out.Run.Replica = a.left[0]
		}
	}
	for _, replica := range slices.Sorted(maps.Keys(p.engines)) {
		if p.status == nil || replicaOf(p.status, replica) == nil {
			continue // the other side of a reload, which is gone
		}
		e := p.engines[replica]
		one := ShownReplica{Target: e.target, Row: e.row}
		if e.due != nil {
			one.Waits = e.due.waits
		}
		out.Replicas = append(out.Replicas, one)
	}
	return out
}
