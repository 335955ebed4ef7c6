package metrics

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// perPool holds what is counted for each pool: it gives out the values of the label pool_id, and
// deletes the series of pools that are removed.
type perPool struct {
	registry *registry.Registry
	series   []deletable
	// What is 0 from the start, so that the first count is a rise: counters labelled pool_id alone,
	// and those by reason.
	counters []*prometheus.CounterVec
	reasons  []*reasonCounter

	mu    sync.Mutex
	known map[string]bool // pools with series of their own
}

// deletable is a vector of metrics with a label pool_id.
type deletable interface {
	DeletePartialMatch(prometheus.Labels) int
}

func (m *Metrics) newPerPool(r *registry.Registry) *perPool {
	p := &perPool{
		registry: r, known: make(map[string]bool),
		series: []deletable{
			m.restarts, m.scheduled, m.probeFailures, m.probeDuration, m.drains.duration, m.drains.forced,
			m.breakers.opened, m.breakers.storms, m.reloads.duration, m.reloads.done, m.reloads.failed,
			m.trust.answers, m.backoff,
		},
		reasons:  []*reasonCounter{m.scheduled, m.probeFailures, m.reloads.failed},
		counters: []*prometheus.CounterVec{m.drains.forced, m.breakers.opened, m.reloads.done},
	}
	r.OnPool(p.follow)
	return p
}

// pool returns the label pool_id of what is counted for a pool. Pools beyond the limit share an
// empty one, which no pool can have.
func (p *perPool) pool(id string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.known[id]:
		return id
	case id == "" || len(p.known) >= maxPools:
		return ""
	}
	p.known[id] = true
	for _, c := range p.counters {
		c.WithLabelValues(id)
	}
	for _, c := range p.reasons {
		c.begin(id)
	}
	return id
}

// follow is called with each status of a pool, nil once it was removed.
func (p *perPool) follow(id string, status *registry.Pool) {
	if status != nil {
		p.pool(id)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forget(id)
}

// forget deletes the series of a pool; the caller holds the lock.
func (p *perPool) forget(id string) {
	if !p.known[id] {
		return
	}
	delete(p.known, id)
	for _, s := range p.series {
		s.DeletePartialMatch(prometheus.Labels{"pool_id": id})
	}
}

// sweep deletes the series of pools for which something was counted after their removal.
func (p *perPool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id := range p.known {
		if _, found := p.registry.Find(id); !found {
			p.forget(id)
		}
	}
}
