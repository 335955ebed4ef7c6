package registry

import "slices"

// Counter returns how many leases a replica has. It is called under the registry's lock and must
// not call the registry.
type Counter func(pool, replica string) int

// CountLeases adds the leases of its replicas to every status that is written later: slots_free is
// slots_total less the leases, and never below 0. Call it before the first Put.
func (r *Registry) CountLeases(count Counter) {
	r.write.Lock()
	defer r.write.Unlock()
	r.count = count
}

// LeasesChanged counts a pool's leases again. An unknown pool is ignored.
func (r *Registry) LeasesChanged(id string) { r.refresh(id, r.counted) }

// refresh writes a pool's status again after fill has changed what it is asked for.
func (r *Registry) refresh(id string, fill func(*Pool)) {
	r.write.Lock()
	defer r.write.Unlock()
	pools := *r.pools.Load()
	at, found := pools.search(id)
	if !found {
		return
	}
	p := *pools[at].now.Load()
	p.Replicas = slices.Clone(p.Replicas)
	fill(&p)
	r.replace(pools[at], &p)
}

// counted fills in the fields that depend on leases; p's replicas are its own. The caller holds the
// write lock.
func (r *Registry) counted(p *Pool) {
	if r.count == nil {
		return
	}
	for i := range p.Replicas {
		replica := &p.Replicas[i]
		replica.ActiveLeases = r.count(p.ID, replica.ID)
		replica.SlotsFree = freeSlots(replica)
	}
	aggregateLeases(p, nil)
	aggregateFree(p, nil)
}
