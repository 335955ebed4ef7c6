package supervise

import (
	"reflect"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/devices"
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
	wanted  bool      // a pool file asks for it, or nobody can tell that none does
	invalid *registry.Failure
	refusal *registry.Failure

	replicas map[pool.Replica]*replica
	last     registry.Pool // as published

	intent     keep.Intent // what operators ask for beside the file, as it is written down
	drainUntil time.Time   // the deadline of intent.Drain
	cutting    bool        // what that deadline cuts is being written down
	saving     bool        // an intent is being written down
	saveAfter  time.Time   // not to be tried again before, since the last write failed
	orders     []func()    // wait for that
	fit        fitOf
}

// replica is one engine process as the loop knows it.
type replica struct {
	entry *entry
	id    pool.Replica
	unit  string
	facts reconcile.Facts
	want  pool.Pool // the version that it is to run; of the entry, but for the sides of a reload
	known bool      // want holds a version

	prep     preparation
	job      job
	run      run
	targets  []devices.Target // the mask of what runs; where nothing runs, planned
	enough   bool             // the newest facts show as much free memory as it needs
	fault    *fault
	ended    *ended // the newest run that ended badly; nil: none
	reading  bool   // the log of a run that ended is being read
	port     int
	endpoint string // http://127.0.0.1:PORT
	limits   string // limits set since the unit was made, which its own label cannot show

	status     systemd.Status
	broken     string // the run after which the unit stayed failed
	confirming string // the run after which it is failed, and may not stay so

	past       history
	state      registry.State
	reason     string
	since      time.Time
	lastErr    *registry.Failure
	heartbeat  time.Time
	readyError string // the last failure that was logged, to log each once
}

func (s *Supervisor) entry(id string) *entry {
	e := s.entries[id]
	if e == nil {
		e = &entry{id: id, intent: s.Intents[id], replicas: make(map[pool.Replica]*replica)}
		s.parkAgain(e)
		s.entries[id] = e
	}
	return e
}

func (s *Supervisor) replica(id pool.Replica) *replica {
	e := s.entry(id.Pool)
	r := e.replicas[id]
	if r == nil {
		r = &replica{entry: e, id: id, unit: id.Unit(), since: time.Now()}
		r.want, r.known = e.desired, e.known
		s.recall(r)
		r.judge()
		e.replicas[id] = r
	}
	return r
}

// judge sets what the pool's file and the host's policy say of the replica. A replica whose pool
// has a broken file and no former version is held as it is.
func (r *replica) judge() {
	e := r.entry
	r.job.stopErr = nil // a new wish: a stop that failed is tried at once, if it is still wanted
	r.facts.Invalid, r.facts.Refusal = e.invalid, e.refusal
	r.facts.Held = e.invalid != nil && !e.known
	order := e.order(r.id)
	r.facts.Wanted = r.facts.Held || e.wanted && e.known && order.Wanted
	r.facts.Rolling = e.intent.Reload != nil
	r.facts.Waits, r.facts.Yields, r.facts.Aside = order.Waits, order.Yields, order.Aside
	r.facts.Rejected = nil
	if e.intent.Rejected != nil {
		r.facts.Rejected = e.intent.Rejected.Failure
	}
	r.facts.Parked = e.parked()
	switch {
	case !r.facts.Parked:
		r.facts.DrainErr = nil
	case r.facts.DrainErr == nil:
		r.facts.DrainErr = r.noted()
	}
	r.facts.FailOpen = r.known && r.want.Health.Mode == pool.FailOpen
}

// adapter returns the engine's adapter: of the pool file, or, for a unit whose file is unknown,
// of the engine that the unit's own log fields name.
func (r *replica) adapter() (engine.Adapter, bool) {
	kind := r.want.Engine
	if !r.known || r.facts.Unit != reconcile.Absent && r.status.LogFields[render.FieldEngine] != "" {
		kind = r.status.LogFields[render.FieldEngine]
	}
	return engine.For(kind)
}

// pool returns the pool that the replica runs or should run; for an orphan, what its unit tells.
func (r *replica) pool() pool.Pool {
	if r.known {
		return r.want
	}
	f := r.status.LogFields
	return pool.Pool{
		ID: r.id.Pool, Engine: f[render.FieldEngine], Model: pool.Model(f[render.FieldModel]), Replicas: 1,
		Health: pool.Health{Interval: 5 * time.Second, Timeout: 2 * time.Second, Failures: 3, Successes: 1, Mode: pool.FailFast},
		Drain:  pool.Drain{Deadline: 30 * time.Second},
	}
}

// current reports whether the unit that PID 1 has is the one that is wanted.
func (r *replica) current() bool {
	return r.prep.prepare == reconcile.Done && r.prep.spec.Identity == r.facts.UnitSpec.Identity
}

// serves returns the engine kind and the model of what runs, which the pool's file may have left behind; where nothing
// runs, those of the file. A label is second to the file where both are of one spec: PID 1 may have cut it.
func (r *replica) serves() (kind, model string) {
	p, f := r.pool(), r.status.LogFields
	if r.facts.Unit == reconcile.Absent || r.current() || f[render.FieldEngine] == "" {
		return p.Engine, string(p.Model)
	}
	return f[render.FieldEngine], f[render.FieldModel]
}

// samePool reports whether two versions of a pool ask for the same; a renamed file does not matter.
func samePool(a, b pool.Pool) bool {
	a.Source, b.Source = "", ""
	return reflect.DeepEqual(a, b)
}

// takeMask lets the wanted mask count from when nothing else runs.
func (r *replica) takeMask() {
	if r.prep.prepare == reconcile.Done && (!r.facts.Exists() || r.current()) {
		r.targets = r.prep.planned
	}
}

// restage asks for staging and preparation anew, because the desired pool changed. What runs is
// not touched by it.
func (r *replica) restage() {
	r.prep.restart()
	r.job.short = nil
	r.job.forgetAttempts()
}

// view is everything that is known about the replica, as package reconcile decides on it.
func (r *replica) view() reconcile.Facts {
	f := r.facts
	f.Stage, f.Prepare, f.Failure, f.Spec = r.prep.stage, r.prep.prepare, r.prep.failure, r.prep.spec
	f.Op, f.Short, f.StopErr, f.StopAt = r.job.action, r.job.short, r.job.stopErr, r.job.stopAt
	if f.Unit == reconcile.Active {
		f.Probe, f.ProbeErr, f.Fault = r.run.verdict, r.run.unwell, r.run.fault
		f.Draining, f.Drained = r.run.draining(), r.run.drained()
	}
	if f.RetryAt = r.job.startAt; r.prep.hasFailed() {
		f.RetryAt = r.prep.retryAt
	}
	return f
}
