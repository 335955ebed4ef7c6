package supervise

import (
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// side is the side of a place that is in use: the one that runs, or else the one that a reload chose, or else the first.
func (e *entry) side(index int) int {
	if side, chosen := e.sides[index]; chosen {
		return side
	}
	for side := range 2 {
		if r := e.replicas[pool.Replica{Pool: e.id, Index: index, Side: side}]; r != nil && r.facts.Exists() {
			return side
		}
	}
	return 0
}

// wantsSide reports whether the pool's version asks for a replica on this side of its place.
func (e *entry) wantsSide(id pool.Replica) bool {
	return id.Index < e.desired.Replicas && id.Side == e.side(id.Index)
}

// sibling is the replica on the other side of the place, nil where there is none.
func (r *replica) sibling() *replica { return r.entry.replicas[r.id.Other()] }
