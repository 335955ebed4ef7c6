package supervise

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// asked is the version that the pool's file and an operator's override ask for together.
func (e *entry) asked() pool.Pool { return e.seen.over(e.intent.Override.Over(e.file)) }

// version is the version that the pool is to run now: what is asked for, or, while a reload is
// under way or after one was gone back from, the version that served before.
func (e *entry) version() pool.Pool {
	in := e.intent
	switch {
	case in.Reload != nil:
		return in.Reload.From
	case in.Rejected != nil && in.Current != nil && in.Rejected.ByFile && samePool(in.Rejected.Version, e.asked()):
		return *in.Current
	}
	return e.asked()
}

// reloadFits reports whether a reload under way still goes where the pool's file and the operator
// want.
func (e *entry) reloadFits() bool {
	rec := e.intent.Reload
	to := e.asked()
	if !rec.ByFile {
		to = e.file
		to.Model, to.ModelDigest, to.Contents = rec.To.Model, rec.To.ModelDigest, rec.To.Contents
	}
	return samePool(to, rec.To)
}

// order is what a replica is to do, and the version that it is to run.
func (e *entry) order(id pool.Replica) rollout.Order {
	if rec := e.intent.Reload; rec != nil && id.Index < rec.Places() {
		from, to := rec.Orders(id.Index)
		if id.Side == rec.Sides[id.Index] {
			return from
		}
		return to
	}
	return rollout.Order{Version: e.desired, Wanted: id.Index < e.desired.Replicas && id.Side == e.side(id.Index)}
}

// side is the side of a place that is in use: the one that serves, or else the one that runs or is
// being started, or else the one that has a unit at all, or else the first.
func (e *entry) side(index int) int {
	if rec := e.intent.Reload; rec != nil && index < len(rec.Sides) {
		return rec.Sides[index]
	}
	for _, inUse := range []func(reconcile.Facts) bool{
		func(f reconcile.Facts) bool { return f.Unit == reconcile.Active },
		func(f reconcile.Facts) bool { return f.Exists() || f.Op == reconcile.Start },
		func(f reconcile.Facts) bool { return f.Unit != reconcile.Absent },
	} {
		for side := range 2 {
			r := e.replicas[pool.Replica{Pool: e.id, Index: index, Side: side}]
			if r != nil && inUse(r.facts()) {
				return side
			}
		}
	}
	return 0
}

// sibling is the replica on the other side of the place, nil where there is none.
func (r *replica) sibling() *replica { return r.entry.replicas[r.id.Other()] }

// assign gives every replica the version that it is to run, and makes those that are missing.
func (s *Supervisor) assign(e *entry) {
	if !e.known {
		return
	}
	if version := e.version(); !samePool(version, e.desired) {
		e.desired = version
		s.o.Log.Info(fmt.Sprintf("pool %s was changed", e.id), e.about()...)
	}
	for i := range e.desired.Replicas {
		id := pool.Replica{Pool: e.id, Index: i, Side: e.side(i)}
		s.replica(id)
		if e.order(id.Other()).Wanted {
			s.replica(id.Other())
		}
	}
	for _, r := range e.replicas {
		version := e.order(r.id).Version
		changed := !r.wish.known || !samePool(r.wish.pool, version)
		probing := r.wish.known && (r.wish.pool.Health != version.Health ||
			r.wish.pool.APIKeyFile != version.APIKeyFile)
		if !changed {
			version.FileEnv = r.wish.pool.FileEnv // as staged; a version that was stored has none
		}
		r.wish.pool, r.wish.known = version, true
		r.updateWish()
		if changed {
			r.prepareAgain()
			s.resetFailures(r) // another version is another try
		}
		if probing {
			s.stopHealth(r)
			s.followHealth(r)
		}
	}
}
