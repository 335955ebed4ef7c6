package supervise

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// onlyBeats reports whether a good probe of a replica changes nothing but the time of its
// heartbeat: every replica of its pool serves as it is wanted, was published so, and nothing of the
// pool waits to be carried out or written down. A settle would then decide, publish and write down
// nothing; what changes with time alone is in the due times. Pools with GPUs are settled, since
// what is published of them has the age of a sample.
func (s *Supervisor) onlyBeats(w *watch) bool {
	e := w.r.entry
	if w.news || !s.connected || !s.everSynced || !e.quiet() {
		return false
	}
	for _, r := range e.replicas {
		if !r.steady() {
			return false
		}
	}
	return true
}

// quiet reports whether nothing is asked of a pool, or left to be written down about it.
func (e *entry) quiet() bool {
	return e.noted && !e.saving && e.saveAfter.IsZero() && e.intent.Reload == nil && !e.parked()
}

// steady reports whether a replica without GPUs serves as it is wanted, and was published so.
func (r *replica) steady() bool {
	return len(r.gpu.targets) == 0 && len(r.asked()) == 0 && r.view.state == registry.StateReady &&
		r.view.lastErr == nil && r.view.logged == "" && !r.run.readySince.IsZero() && r.facts().Settled()
}

// beat takes a good probe that changes nothing else.
func (s *Supervisor) beat(r *replica, now time.Time) {
	r.run.failures, r.view.heartbeat = 0, now
	r.run.successes++
	if p := s.o.Registry.Beat(r.id.Pool, r.id.Name(), now); p != nil {
		r.entry.last = p
	}
}
