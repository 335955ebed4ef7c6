package registry

import "time"

// Perf are the performance hints of an engine. docs/performance.md defines the figures.
type Perf struct {
	TokensPerS   float64 // of one stream; 0: not known
	FirstTokenMS float64 // 0: not known
	// Measured is when the engine was measured; zero: it was not, and the figures are from its own
	// counters alone.
	Measured  time.Time
	Disturbed bool // something else ran during the measurement
}

// Hinter returns the performance hints of a replica, nil if nothing is known. It is called under
// the registry's lock and must not call the registry.
type Hinter func(pool string, r *Replica) *Perf

// Hint adds performance hints to every status that is written later. Call it before the first Put.
func (r *Registry) Hint(of Hinter) {
	r.write.Lock()
	defer r.write.Unlock()
	r.hints = of
}

// HintsChanged asks for a pool's performance hints again. An unknown pool is ignored.
func (r *Registry) HintsChanged(id string) { r.refresh(id, r.hinted) }

// hinted fills in the performance hints; p's replicas are its own. The caller holds the write lock.
func (r *Registry) hinted(p *Pool) {
	if r.hints == nil {
		return
	}
	for i := range p.Replicas {
		p.Replicas[i].Perf = r.hints(p.ID, &p.Replicas[i])
	}
	aggregateTokensPerS(p, nil)
	aggregateFirstToken(p, nil)
}

func aggregateTokensPerS(p *Pool, _ *Replica) {
	p.TokensPerS = 0
	for _, v := range hintsOf(p, func(f *Perf) float64 { return f.TokensPerS }) {
		if p.TokensPerS == 0 || v < p.TokensPerS {
			p.TokensPerS = v
		}
	}
}

func aggregateFirstToken(p *Pool, _ *Replica) {
	p.FirstTokenMS = 0
	for _, v := range hintsOf(p, func(f *Perf) float64 { return f.FirstTokenMS }) {
		p.FirstTokenMS = max(p.FirstTokenMS, v)
	}
}

// hintsOf lists what is known of the ready replicas.
func hintsOf(p *Pool, of func(*Perf) float64) (known []float64) {
	for i := range p.Replicas {
		r := &p.Replicas[i]
		if r.Ready && r.Perf != nil && of(r.Perf) > 0 {
			known = append(known, of(r.Perf))
		}
	}
	return known
}
