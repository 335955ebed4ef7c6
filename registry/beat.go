package registry

import (
	"slices"
	"time"
)

// Beat records when a probe of a replica last succeeded, where nothing else of its pool has
// changed, and returns the pool's status. For an unknown replica it does nothing and returns nil.
func (r *Registry) Beat(pool, replica string, at time.Time) *Pool {
	r.write.Lock()
	defer r.write.Unlock()
	pools := *r.pools.Load()
	i, found := pools.search(pool)
	if !found {
		return nil
	}
	was := pools[i].now.Load()
	n := slices.IndexFunc(was.Replicas, func(r Replica) bool { return r.ID == replica })
	if n < 0 {
		return nil
	}
	p := *was
	p.Replicas = slices.Clone(was.Replicas)
	p.Replicas[n].LastHeartbeat = at
	aggregateHeartbeat(&p, nil)
	pools[i].now.Store(&p)
	r.beats.Add(1)
	return &p
}
