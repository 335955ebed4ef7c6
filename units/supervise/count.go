package supervise

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/lastwords"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// countRuns has the failed runs counted that a status of the unit adds. It returns the run whose
// end the status shows, "" for none.
func (s *Supervisor) countRuns(r *replica, st systemd.Status) (ended string) {
	if !r.wish.known || !st.Loaded() {
		return "" // what counts is not known while the pool's file cannot be read
	}
	sight, byUs := SightOf(st), r.job.action == reconcile.Stop || st.FailedInStop()
	if byUs && sight.Phase != restarts.PhaseQueued {
		sight.Phase = restarts.PhaseRuns // the run is being stopped, however it ends
	}
	before := r.past.Runs
	e := r.past.Runs.Observe(sight)
	if byUs {
		r.past.Runs.Stop()
	}
	r.past.State.Restarted(r.policy(), e.Unseen, s.o.Clock.SinceBoot())
	if before.Differs(r.past.Runs) {
		s.saveHistory(r)
	}
	return e.Run
}

// failedRun counts a run that failed, and holds the next start back where PID 1 would make it too
// early. unread says that its log may still show another cause.
func (s *Supervisor) failedRun(r *replica, run string, f *registry.Failure, unread bool) {
	now, was := s.o.Clock.SinceBoot(), r.past.State.BreakerNow()
	failed := restarts.Failed{At: now, Class: restarts.ClassOf(f.Code), Run: run, Unread: unread}
	v := r.past.State.FailedRun(r.policy(), failed, r.unit.name)
	s.delayStart(r, v, was, f, now)
	if !unread {
		s.countScheduled(r, v, failed.Class)
	}
}

// reclassify completes the failure of a run that was counted before its log was read.
func (s *Supervisor) reclassify(r *replica, run string, class restarts.Class, f *registry.Failure) {
	if run == "" || !r.wish.known {
		return
	}
	now, was, unread := s.o.Clock.SinceBoot(), r.past.State.BreakerNow(), r.past.State.Unread(run)
	waits := r.past.Runs.Waits() && r.job.action != reconcile.Start
	v := r.past.State.Learnt(r.policy(), run, class, now, r.unit.name, waits)
	switch {
	case v.Opened:
		s.delayStart(r, v, was, f, now)
	case v.Breaker == restarts.Open && r.wait.err != nil:
		r.wait.err = openErr(v, f, r.id.Pool)
	case waits && r.wait.on:
		ours, until := r.wait.ours, r.wait.until
		r.wait.set(v.Next, now)
		r.wait.ours = ours || s.startsItself(r, v)
		if r.wait.until.After(until) {
			s.o.Log.Info(fmt.Sprintf("%s: the next start is delayed; it is due in %s", r.id, rounded(v.Delay)),
				s.aboutStart(r, v, f)...)
		}
	}
	if unread {
		s.countScheduled(r, v, class)
	}
	s.saveHistory(r)
}

// readFormer has the logs read of runs whose class a former manager did not live to learn.
func (s *Supervisor) readFormer(r *replica) {
	if s.o.Journal == nil {
		return
	}
	for _, run := range r.past.State.Recent {
		if !run.Unread || run.Run == "" {
			continue
		}
		s.readLog(logOrigin{unit: r.unit.name}, run.Run, func(t tail, _ string) {
			if r.entry.replicas[r.id] != r || !r.past.State.Unread(run.Run) {
				return
			}
			class, f := run.Class, registry.Fail(registry.CodeEngineCrashed, "the engine ended", readLogs(r.unit.name))
			if v, ok := r.reason(t.lines); ok && class.ByItself() {
				f = registry.Fail(registry.Code(v.Code), lastwords.Clean(v.Text), v.Hint)
				class = restarts.ClassOf(f.Code)
			}
			s.reclassify(r, run.Run, class, f)
			s.settle(r)
		})
	}
}

// countScheduled counts a restart that will be made, by the class of the failure before it.
func (s *Supervisor) countScheduled(r *replica, v restarts.Verdict, c restarts.Class) {
	if v.Breaker != restarts.Open {
		s.o.Observer.RestartScheduled(*r.entry.last, string(c), v.Delay)
	}
}

// aboutStart is what the log says of the next start.
func (s *Supervisor) aboutStart(r *replica, v restarts.Verdict, f *registry.Failure) []any {
	return append(withValues(s.about(r), "last_error", f.Error()), "backoff_ms", v.Delay.Milliseconds(),
		"restart_count", r.restarts(),
		"next_restart_ms", time.Now().Add(v.Delay).UnixMilli(), "class", string(v.Cause))
}

// delayStart has the next start wait as a verdict says, and reports a breaker that opened and a
// storm that began.
func (s *Supervisor) delayStart(r *replica, v restarts.Verdict, was restarts.Breaker, f *registry.Failure,
	now time.Time) {
	r.wait.set(v.Next, now)
	r.wait.ours = s.startsItself(r, v) || r.job.action == reconcile.Defer // whose stop may come in the next wait
	r.wait.err = nil
	if v.Breaker == restarts.Open {
		r.wait.err = openErr(v, f, r.id.Pool)
	}
	if r.runs() { // PID 1 was faster than the log
		r.wait.end()
	}
	attrs := append(s.aboutStart(r, v, f), "breaker", string(v.Breaker))
	s.o.Log.Info(fmt.Sprintf("%s: the next start is due in %s", r.id, rounded(v.Delay)), attrs...)
	if v.Began {
		s.storm(r, v, f)
	}
	s.reportBreaker(r, was)
	s.saveHistory(r)
}

// startsItself reports whether the manager makes the next start, because PID 1 would make it too
// early: below systemd 254 its delay does not grow, and it knows no classes. It would be too late
// for a unit that was started in a row of failures which are over since. A delay that an
// administrator made longer is left alone.
func (s *Supervisor) startsItself(r *replica, v restarts.Verdict) bool {
	return v.TooEarly(r.backoff()) || r.past.InRow && v.TooLate(r.backoff())
}

// storm reports that an engine restarts too often.
func (s *Supervisor) storm(r *replica, v restarts.Verdict, f *registry.Failure) {
	window := r.policy().StormWindow
	cause := fmt.Sprintf("%s within %s, mostly by %s; restarts are delayed. %s", count(v.Counted, "failure"), window,
		v.Cause, v.Advice)
	s.o.Log.Error(fmt.Sprintf("%s: %s", r.id, cause),
		append(s.aboutStart(r, v, f), "window_ms", window.Milliseconds(), "count", v.Counted,
			catalogue.Key, catalogue.EngineStorm)...)
	s.o.Registry.Note(registry.Event{Kind: registry.KindStorm, PoolID: r.id.Pool, ReplicaID: r.id.Name(),
		State: r.view.state, Cause: cause, Failure: f})
	s.o.Observer.Storm(*r.entry.last, string(v.Cause))
}

// reportBreaker reports that the breaker is in another state.
func (s *Supervisor) reportBreaker(r *replica, was restarts.Breaker) {
	is := r.past.State.BreakerNow()
	if is == was {
		return
	}
	cause := fmt.Sprintf("the breaker changed from %[2]s to %[1]s", is, was)
	attrs := []any{"old_state", string(was), "new_state", string(is), "failures", r.past.State.Failures}
	if by := r.past.State.By(); by != "" {
		attrs = append(attrs, "class", string(by))
	}
	switch is {
	case restarts.Open:
		attrs = append(attrs, catalogue.Key, catalogue.BreakerOpened)
	case restarts.Closed:
		attrs = append(attrs, catalogue.Key, catalogue.BreakerClosed)
	}
	s.o.Log.Log(s.ctx, levelOf(is), fmt.Sprintf("%s: %s", r.id, cause), append(s.about(r), attrs...)...)
	s.o.Registry.Note(registry.Event{Kind: registry.KindBreaker, PoolID: r.id.Pool, ReplicaID: r.id.Name(),
		State: r.view.state, Cause: cause, Failure: r.wait.err})
	s.o.Observer.Breaker(*r.entry.last, string(is))
}

// levelOf is the level at which a breaker's new state is logged.
func levelOf(b restarts.Breaker) slog.Level {
	if b == restarts.Open {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

// beginUnit records that the engine gets a new unit, whose counter begins at 0, and returns the
// unit with which PID 1 goes on from the failures so far.
func (s *Supervisor) beginUnit(r *replica) render.Unit {
	r.past.Runs.Begin()
	policy := r.past.State.UnitPolicy(r.policy(), s.o.Clock.SinceBoot(), r.unit.name)
	r.past.InRow = policy != restarts.UnitPolicy{}
	s.saveHistory(r)
	return r.prep.plan.Unit().WithPolicy(policy)
}

// restarts is how often the engine was started again after a run that failed, by PID 1 or the
// manager. It never decreases.
func (r *replica) restarts() int { return r.past.Carried + r.past.Runs.Before }

// sinceSteady is how many of these came after the last run that was long enough, or an operator's
// reset.
func (r *replica) sinceSteady() int { return r.restarts() - r.past.Steady }

// carryOver gives the restarts of a replica that leaves to the side that stays.
func (s *Supervisor) carryOver(r *replica) {
	for _, other := range r.entry.replicas {
		if other != r && other.id.Index == r.id.Index {
			other.past.Carried += r.restarts()
			other.past.Steady += r.restarts()
			s.saveHistory(other)
		}
	}
}
