package registry

import (
	"slices"
	"time"
)

// Counter tells how many leases a replica has. It is called under the registry's lock and must not call the registry.
type Counter func(pool, replica string) int

// CountLeases lets every status that is written from now on hold the leases of its replicas: slots_free is what they leave of slots_total, and
// never below 0. Call it before the first Put.
func (r *Registry) CountLeases(count Counter) {
	r.write.Lock()
	defer r.write.Unlock()
	r.count = count
}

// LeasesChanged counts a pool's leases anew. An unknown pool is nothing to count.
func (r *Registry) LeasesChanged(id string) {
	r.write.Lock()
	defer r.write.Unlock()
	was := r.now.Load()
	at, found := was.search(id)
	if !found || r.count == nil {
		return
	}
	p := *was.Pools[at]
	p.Replicas = slices.Clone(p.Replicas)
	r.counted(&p)
	next := *was
	next.Pools = slices.Clone(was.Pools)
	next.Pools[at] = &p
	r.publish(next)
	r.record(flips(was.Pools[at], &p, time.Now()), &p)
}

// counted fills in what leases decide; p's replicas are its own. The caller holds the write lock.
func (r *Registry) counted(p *Pool) {
	if r.count == nil {
		return
	}
	p.ActiveLeases, p.SlotsFree = 0, 0
	for i := range p.Replicas {
		replica := &p.Replicas[i]
		replica.ActiveLeases = r.count(p.ID, replica.ID)
		p.ActiveLeases += replica.ActiveLeases
		replica.SlotsFree = 0
		if replica.Ready {
			replica.SlotsFree = max(replica.SlotsTotal-replica.ActiveLeases, 0)
		}
		if !p.Draining {
			p.SlotsFree += replica.SlotsFree
		}
	}
}
