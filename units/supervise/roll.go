package supervise

import (
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// saveAgain is when a step of a reload, or the end of a restart, that could not be written down is
// tried again.
const saveAgain = 5 * time.Second

// noteAgain is when it is tried again to write down which version serves.
const noteAgain = 5 * time.Minute

// follow takes the next step of a pool's reload, when there is one.
func (s *Supervisor) follow(e *entry) {
	rec := e.intent.Reload
	if rec == nil || e.saving || !s.connected || !e.known || !e.wanted || time.Now().Before(e.saveAfter) {
		return
	}
	step := rollout.Next(*rec, s.rollFacts(e, rec))
	if !step.Moved {
		return
	}
	next := e.intent
	if step.Done {
		next = s.rolled(e, step.Record)
	} else {
		next.Reload = &step.Record
		if p := step.Record.Phase; p == rollout.Handing || p == rollout.Yielding {
			next.ReloadUntil = s.o.Clock.In(step.Record.Deadline)
		}
		s.o.Log.Info("reload: "+string(step.Record.Phase),
			append(e.aboutReload(step.Record), "place", step.Record.Place)...)
	}
	s.save(e, next, func(err error) {
		if err != nil {
			e.saveAfter = time.Now().Add(saveAgain)
			s.wakeAt(e, e.saveAfter)
			return
		}
		if step.Done {
			s.reportReload(e, step.Record)
		}
	})
}

// rolled is what is asked of a pool whose reload has come to its end.
func (s *Supervisor) rolled(e *entry, rec rollout.Record) keep.Intent {
	next := e.intent
	next.Reload, next.ReloadUntil = nil, keep.Deadline{}
	if rec.Back() {
		from := rec.From
		next.Current = &from
		if rec.Reason != rollout.Cancelled {
			next.Rejected = &keep.Rejected{Version: rec.To, ByFile: rec.ByFile, Reason: rec.Reason,
				Failure: rec.Failure, At: time.Now().Round(0)}
		}
		return next
	}
	to := rec.To
	e.seen = seenOf(to)
	next.Current, next.Rejected = &to, nil
	if !rec.ByFile {
		next.Override = &keep.Override{Model: to.Model, Digest: to.ModelDigest, Since: time.Now().Round(0), By: rec.By}
		if to.Model == e.file.Model && to.ModelDigest == e.file.ModelDigest {
			next.Override = nil
		}
	}
	return next
}

// reportReload reports how a reload ended.
func (s *Supervisor) reportReload(e *entry, rec rollout.Record) {
	took := time.Since(rec.Began)
	s.o.Observer.Reloaded(*e.last, took, string(rec.Reason))
	s.o.Registry.Note(reloadEvent(e, rec))
	if rec.Back() {
		s.o.Log.Error(fmt.Sprintf("pool %s: the reload was rolled back; the former version is in force", e.id),
			append(e.aboutReload(rec), "reason", string(rec.Reason), "last_error", rec.Failure.Error(), "hint",
				rec.Failure.Hint, "reload_ms", took.Milliseconds(), catalogue.Key, catalogue.ReloadRolledBack)...)
		return
	}
	s.o.Log.Info(fmt.Sprintf("pool %s: the reload is done", e.id),
		append(e.aboutReload(rec), "reload_ms", took.Milliseconds())...)
}

// reloadEvent reports of a reload, by its record.
func reloadEvent(e *entry, rec rollout.Record) registry.Event {
	ev := registry.Event{Kind: registry.KindReload, PoolID: e.id, State: e.last.State, Correlation: rec.Correlation,
		Cause: fmt.Sprintf("from %s to %s: ", rec.From.Model, rec.To.Model)}
	if rec.From.Model == rec.To.Model && rec.From.Contents != rec.To.Contents {
		ev.Cause = fmt.Sprintf("to new files of %s: ", rec.To.Model)
	}
	switch {
	case rec.Back():
		ev.Cause += "rolled back (" + string(rec.Reason) + "), the former version is in force"
		ev.Failure = rec.Failure
	case rec.Place >= rec.Places():
		ev.Cause += "done"
	default:
		ev.Cause += "begun by " + who(rec.By)
	}
	return ev
}

// aboutReload is what log lines of a reload carry.
func (e *entry) aboutReload(rec rollout.Record) []any {
	about := withValues(e.about(), "engine", rec.To.Engine, "model_id", string(rec.To.Model))
	return append(caused(about, rec.Correlation), "from_model_id", string(rec.From.Model), "identity", rec.By)
}

// rollFacts is what is known of the place that a reload works on.
func (s *Supervisor) rollFacts(e *entry, rec *rollout.Record) rollout.Facts {
	if rec.Place < 0 || rec.Place >= rec.Places() {
		return rollout.Facts{}
	}
	from := pool.Replica{Pool: e.id, Index: rec.Place, Side: rec.Sides[rec.Place]}
	leaves, comes := from, from.Other()
	if rec.Undo {
		leaves, comes = comes, leaves
	}
	f := rollout.Facts{Leaves: e.replicas[leaves].sideFacts(), Comes: e.replicas[comes].sideFacts(), Parked: e.parked(),
		Before: e.replacedFails(rec)}
	if rec.Phase == rollout.Preparing && f.Comes.Prepared {
		f.Fit, f.Short = s.fit(e, e.replicas[leaves], e.replicas[comes], rec)
	}
	return f
}

// replacedFails is why a replica that the reload has replaced already no longer serves.
func (e *entry) replacedFails(rec *rollout.Record) *registry.Failure {
	for i := range rec.Place {
		r := e.replicas[pool.Replica{Pool: e.id, Index: i, Side: rec.Sides[i]}.Other()]
		switch side := r.sideFacts(); {
		case side.Failed != nil:
			return side.Failed
		case side.Sick:
			return r.run.probeErr
		}
	}
	return nil
}

// idle reports whether the unit has a process that serves nothing yet, or no longer any, so that
// nothing can be held.
func idle(f reconcile.Facts) bool {
	return f.Unit == reconcile.Starting || f.Unit == reconcile.Backoff || f.Unit == reconcile.Broken ||
		f.Unit == reconcile.Exited
}

// sideFacts is what a reload must know of one side of a place, which may not be there.
func (r *replica) sideFacts() rollout.Side {
	if r == nil {
		return rollout.Side{}
	}
	f := r.facts()
	side := rollout.Side{
		Known: true,
		Exists: f.Unit != reconcile.Absent || f.Op == reconcile.Start || f.Op == reconcile.Stop ||
			f.Op == reconcile.Clear,
		Prepared: f.Prepare == reconcile.Done,
		Ready:    reconcile.Assess(f).Ready,
		Sick:     f.Unit == reconcile.Active && f.Probe == reconcile.Unhealthy,
		Drained:  f.Drain == reconcile.Drained || idle(f),
		Failed:   hasFailed(f),
	}
	if d := r.run.drain; d != nil {
		side.Overdue, side.Held = d.overdue, d.heldThen
	}
	return side
}

// hasFailed is why a replica does not come up, nil while it may.
func hasFailed(f reconcile.Facts) *registry.Failure {
	switch {
	case f.Refusal != nil:
		return f.Refusal
	case f.Stage == reconcile.Failed || f.Prepare == reconcile.Failed:
		return f.Failure
	case f.GPU != nil:
		return f.GPU
	case f.Unit == reconcile.Absent && f.Short != nil:
		return f.Short
	case f.Unit == reconcile.Backoff || f.Unit == reconcile.Broken:
		if f.Crash != nil {
			return f.Crash
		}
		return registry.Fail(registry.CodeEngineCrashed, "the new engine ended", "Read its log.")
	case f.Unit == reconcile.Exited && f.Role != reconcile.Standby:
		return registry.Fail(registry.CodeEngineStartFailed, "the new engine ended by itself, or was stopped by hand",
			"Read its log.")
	}
	return nil
}

// beginReload puts a change of a pool's file into a reload, so that a version that does not come up
// costs nothing. It reports whether it did: it takes a former version that serves.
func (s *Supervisor) beginReload(r *replica) bool {
	e := r.entry
	if e.intent.Reload != nil {
		return false
	}
	if r.external() || e.intent.Current != nil && external(*e.intent.Current) {
		return false // an engine of another program is not replaced by starting another
	}
	if r.unit.phase != reconcile.Active || !r.facts().Replaced() || r.wish.parked ||
		r.wish.asks == reconcile.Unwanted || r.gpu.blocked != nil {
		return false
	}
	if s.occupied(r, r.prep.planned) != nil || s.waitedFor(r) {
		return false // two pools swap their GPUs: neither could go back
	}
	if e.saving {
		return true // it may be this very reload that is being written down
	}
	from := e.intent.Current
	if from == nil || r.run.verdict != reconcile.Healthy || r.run.draining() || time.Now().Before(e.saveAfter) {
		return time.Now().Before(e.saveAfter)
	}
	s.queue(e, func(e *entry, was keep.Intent) (keep.Intent, func(), error) {
		rec := rollout.Begin(*from, e.asked(), e.sides(), e.desired.Drain.Deadline, time.Now())
		rec.ByFile, rec.By = true, "the pool's file"
		if rec.From.Contents != rec.To.Contents {
			rec.By = "the model's files"
		}
		was.Reload, was.Rejected = &rec, nil
		return was, func() {
			s.o.Registry.Note(reloadEvent(e, rec))
			s.o.Log.Info(fmt.Sprintf("pool %s: %s changed so that new engines are needed; a reload begins",
				e.id, rec.By), e.aboutReload(rec)...)
		}, nil
	}, func(err error) {
		if err != nil {
			e.saveAfter = time.Now().Add(saveAgain)
			s.wakeAt(e, e.saveAfter)
		}
	})
	return true
}

// dropStale drops what does not go with the pool's file: a reload to another version, and the
// failure of one that was gone back from.
func (s *Supervisor) dropStale(e *entry, changed bool) {
	in := e.intent
	cancel := in.Reload != nil && !in.Reload.Back() && !e.reloadFits()
	stale := in.Rejected != nil && (changed || in.Rejected.ByFile && !samePool(in.Rejected.Version, e.asked()))
	if !cancel && !stale {
		return
	}
	s.queue(e, func(_ *entry, was keep.Intent) (keep.Intent, func(), error) {
		if cancel && was.Reload != nil {
			was.Reload = cancelled(was.Reload, "the pool's file was changed again")
		}
		if stale {
			was.Rejected = nil
		}
		return was, nil, nil
	}, func(error) {}) // it was logged; the next look at the files tries again
}

// cancelled is the record of a reload that goes back because of another wish.
func cancelled(rec *rollout.Record, why string) *rollout.Record {
	back := rec.Cancel(rollout.Cancelled, registry.Fail(registry.CodeReloadCancelled, why,
		"Reload the pool again if you still want the new version."))
	return &back
}

// updateYield brings a drain up to what a reload asks of the replica now.
func (r *replica) updateYield() {
	d := r.run.drain
	if d == nil {
		return
	}
	if r.wish.role != reconcile.Yield {
		d.overdue = false
	}
	if r.wish.parked {
		d.until = r.entry.drainUntil
	}
}

// sides are the sides in use, by place.
func (e *entry) sides() []int {
	out := make([]int, e.desired.Replicas)
	for i := range out {
		out[i] = e.side(i)
	}
	return out
}

// noteCurrent writes down which version serves, the first time that it does. It reports whether
// that version is written down.
func (s *Supervisor) noteCurrent(e *entry) bool {
	if e.intent.Reload != nil || e.saving || !e.known || !e.wanted || time.Now().Before(e.saveAfter) {
		return false
	}
	if c := e.intent.Current; c != nil && samePool(*c, e.desired) {
		return true
	}
	for _, r := range e.replicas {
		if reconcile.Assess(r.facts()).Ready && r.current() && r.wish.asks != reconcile.Unwanted &&
			samePool(r.wish.pool, e.desired) {
			next, version := e.intent, e.desired
			next.Current = &version
			s.save(e, next, func(err error) {
				if err != nil {
					e.saveAfter = time.Now().Add(noteAgain) // only a later reload needs it
				}
			})
			break
		}
	}
	return false
}
