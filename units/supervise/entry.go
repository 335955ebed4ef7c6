package supervise

import (
	"reflect"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// entry is one pool as the loop knows it.
type entry struct {
	id      string
	file    pool.Pool // as the pool's file has it
	desired pool.Pool // the version that the pool is to run now
	known   bool      // both hold a valid version
	wanted  bool      // a pool file asks for it, or no one can tell that none does
	invalid *registry.Failure
	refusal *registry.Failure

	replicas map[pool.Replica]*replica
	last     *registry.Pool // as published

	intent     keep.Intent // what operators ask for beside the file, as it is written down
	drainUntil time.Time   // the deadline of intent.Drain
	cutting    bool        // what that deadline cuts is being written down
	saving     bool        // an intent is being written down
	due        due         // when to decide on it again
	saveAfter  time.Time   // not to be tried again before, since the last write failed; zero: at once
	noted      bool        // the version that serves is written down
	orders     []func()    // wait for that
	fit        fitOf

	seen    seen // the model's files
	looking bool // they are being looked at

	preload preloading // beside intent.Preload

	fetching string // the model or image whose download was noted to have begun, and not yet to have ended
}

func (s *Supervisor) entry(id string) *entry {
	e := s.entries[id]
	if e == nil {
		e = &entry{id: id, intent: s.o.Intents[id], replicas: make(map[pool.Replica]*replica),
			last: &registry.Pool{ID: id}}
		e.seen = e.seenBefore()
		s.updateDrain(e)
		s.entries[id] = e
	}
	return e
}

func (s *Supervisor) replica(id pool.Replica) *replica {
	e := s.entry(id.Pool)
	r := e.replicas[id]
	if r == nil {
		r = &replica{entry: e, id: id, unit: unit{name: id.Unit()}, view: shown{since: time.Now()}}
		r.wish.pool, r.wish.known = e.desired, e.known
		s.loadHistory(r)
		r.updateWish()
		e.replicas[id] = r
	}
	return r
}

// adapter returns the engine's adapter: of the pool file, or, for a unit whose file is unknown,
// of the engine that the unit's own log fields name.
func (r *replica) adapter() (engine.Adapter, bool) {
	kind := r.wish.pool.Engine
	if !r.wish.known || r.unit.phase != reconcile.Absent && r.unit.status.LogFields[render.FieldEngine] != "" {
		kind = r.unit.status.LogFields[render.FieldEngine]
	}
	a, ok := engine.For(kind)
	if !ok {
		return nil, false
	}
	return engine.Served(a, r.pool()), true
}

// pool returns the pool that the replica runs or should run; for an orphan, what its unit reports.
func (r *replica) pool() pool.Pool {
	if r.wish.known {
		return r.wish.pool
	}
	f := r.unit.status.LogFields
	return pool.Pool{
		ID: r.id.Pool, Engine: f[render.FieldEngine], Model: pool.Model(f[render.FieldModel]), Replicas: 1,
		Health: pool.Health{Interval: 5 * time.Second, Timeout: 2 * time.Second, Failures: 3, Successes: 1,
			Mode: pool.FailFast},
		Drain: pool.Drain{Deadline: 30 * time.Second},
	}
}

// current reports whether the unit that PID 1 has is the one that is wanted.
func (r *replica) current() bool {
	return r.prep.prepare == reconcile.Done && r.prep.spec.Identity == r.unit.spec.Identity
}

// serves returns the engine kind and the model of what runs, which the pool's file may have left
// behind; where nothing runs, those of the file. A label is second to the file where both are of
// one spec: PID 1 may have cut it.
func (r *replica) serves() (kind, model string) {
	p, f := r.pool(), r.unit.status.LogFields
	if r.unit.phase == reconcile.Absent || r.current() || f[render.FieldEngine] == "" {
		return p.Engine, string(p.Model)
	}
	return f[render.FieldEngine], f[render.FieldModel]
}

// samePool reports whether two versions of a pool ask for the same; a renamed file does not matter.
// Other contents of a file of variables are another version by Contents.
func samePool(a, b pool.Pool) bool {
	a.Source, b.Source, a.FileEnv, b.FileEnv = "", "", nil, nil
	return reflect.DeepEqual(a, b)
}

// updateMask lets the wanted mask count from when nothing else runs.
func (r *replica) updateMask() {
	if r.prep.prepare == reconcile.Done && (!r.unit.phase.Exists() || r.current()) {
		r.gpu.targets = r.prep.planned
	}
}

// prepareAgain asks for staging and preparation again, because the desired pool changed. What runs
// is not touched by it.
func (r *replica) prepareAgain() {
	r.prep.restart()
	r.job.short = nil
	r.job.forgetAttempts()
}
