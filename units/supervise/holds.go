package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// Marks keeps what is known of past failures over a restart of the manager, and not over a reboot. Put is called beside the loop.
type Marks interface {
	Put(key string, value json.RawMessage) error
	Drop(key string) error
}

// history is what a replica's failures come to, as it is written down.
type history struct {
	State restarts.State `json:"state"`
	Run   string         `json:"run,omitempty"`  // the newest run that was counted, by its invocation
	Seen  int            `json:"seen,omitempty"` // PID 1's restarts (NRestarts) that are counted
	Due   bool           `json:"due,omitempty"`  // the restart that follows the newest run is still to come
	Base  int            `json:"base,omitempty"` // restarts that PID 1 has forgotten
	// Taken is not 0 from when a unit is taken from PID 1 until its next start: the restarts that PID 1 had counted, and that start.
	Taken int `json:"taken,omitempty"`
}

func (r *replica) policy() restarts.Policy { return restarts.PolicyOf(r.pool()) }

// recall gives a replica the history that a former manager wrote down.
func (s *Supervisor) recall(r *replica) {
	text, known := s.Marked[r.id.String()]
	if !known {
		return
	}
	if err := json.Unmarshal(text, &r.past); err != nil {
		s.Log.Warn("the replica's past failures cannot be read, and count no more", "pool_id", r.id.Pool, "replica_id", r.id.Name(), "err", err)
		r.past = history{}
	}
	now := s.Clock.SinceBoot()
	r.wait.set(r.past.State.Next, now)
	r.wait.early = r.wait.on
	if st := r.past.State; st.BreakerNow() == restarts.Open && r.wait.on {
		r.wait.err = registry.Fail(registry.CodeBreakerOpen, fmt.Sprintf("%s in a row, mostly by %s", count(st.Failures, "failure"), st.Cause),
			strings.TrimSpace(st.Cause.Advice()+" poolctl reset "+r.id.Pool+" closes the breaker."))
	}
}

// mark writes a replica's history down, beside the loop. What is not written is counted anew after the next restart of the manager.
func (s *Supervisor) mark(r *replica) {
	if s.Marks == nil {
		return
	}
	text, err := json.Marshal(r.past)
	if err != nil {
		s.Log.Error("the replica's past failures cannot be written down", append(s.about(r), "err", err)...)
		return
	}
	s.unmarked[r.id.String()] = text
	s.writeMarks()
}

// unmark forgets the history of a replica that is no more.
func (s *Supervisor) unmark(r *replica) {
	delete(s.Marked, r.id.String())
	if s.Marks != nil {
		s.unmarked[r.id.String()] = nil
		s.writeMarks()
	}
}

// unmarkStrangers forgets the history of pools that were removed while no manager ran.
func (s *Supervisor) unmarkStrangers() {
	for key := range s.Marked {
		id, _, _ := strings.Cut(key, "/")
		if s.entries[id] != nil {
			continue
		}
		delete(s.Marked, key)
		if s.Marks != nil {
			s.unmarked[key] = nil
			s.writeMarks()
		}
	}
}

// writeMarks writes what has changed, one batch at a time, so that an older value never comes after a newer one.
func (s *Supervisor) writeMarks() {
	if s.marking || len(s.unmarked) == 0 {
		return
	}
	batch := s.unmarked
	s.marking, s.unmarked = true, make(map[string]json.RawMessage)
	s.effect(func(context.Context) func() {
		var failed error
		for key, value := range batch {
			keep := func() error { return s.Marks.Put(key, value) }
			if value == nil {
				keep = func() error { return s.Marks.Drop(key) }
			}
			if err := keep(); err != nil {
				failed = err
			}
		}
		return func() {
			if failed != nil {
				s.Log.Warn("past failures of engines could not be written down", "err", failed)
			}
			s.marking = false
			s.writeMarks()
		}
	}, func(error) { s.marking = false })
}

// seen compares PID 1's counter with what was counted: engines fail while no manager looks, too.
func (s *Supervisor) seen(r *replica, st systemd.Status) {
	past := &r.past
	more := st.NRestarts - past.Seen
	if r.wish.known && past.Taken > 0 && r.job.action != reconcile.Hold && (r.unit.phase == reconcile.Backoff || r.runs()) {
		past.Taken = 0 // it could not be taken, or who took it did not live to see it gone
		s.mark(r)
	}
	switch {
	case !r.wish.known || more == 0 || !r.unit.phase.Exists() || r.job.action == reconcile.Hold || r.job.action == reconcile.Stop:
		return // a unit that leaves tells nothing new; what counts is not known while the pool's file cannot be read
	case more < 0: // an administrator reset it, or we did
		past.Base -= more
	default:
		// The failure before the newest restart is counted already, or will be when its report is complete.
		told := r.last.report == nil || r.last.report.told || r.last.report.void || r.last.report.run == past.Run
		if past.Due || !told {
			more--
		}
		past.Due = false
		past.State.Restarted(r.policy(), more, s.Clock.SinceBoot())
	}
	past.Seen = st.NRestarts
	s.mark(r)
}

// failedRun counts a run that ended badly, once, and holds the next start back where PID 1 would make it too early.
func (s *Supervisor) failedRun(r *replica, run string, f *registry.Failure) {
	if run == "" || !r.wish.known {
		return
	}
	if run == r.past.Run {
		s.learnt(r, f)
		return
	}
	now := s.Clock.SinceBoot()
	was := r.past.State.BreakerNow()
	v := r.past.State.Failed(r.policy(), restarts.ClassOf(f.Code), now, r.unit.name)
	r.past.Run = run
	r.past.Due = r.unit.phase == reconcile.Backoff
	s.judged(r, v, was, f, now)
}

// faster is a delay of PID 1's that is over before a log is read for sure.
const faster = 2 * time.Second

// failedAtOnce counts a run before its log tells why where PID 1 would make the next one meanwhile: one with a short delay, which a storm or the
// breaker may have to stop, and a trial, which is a single one whenever the manager is killed.
func (s *Supervisor) failedAtOnce(r *replica, f *registry.Failure) {
	if r.unit.phase == reconcile.Backoff && (r.past.State.BreakerNow() != restarts.Closed || r.backoff() < faster) {
		s.failedRun(r, r.unit.status.InvocationID, f)
	}
}

// learnt completes a failure that was counted before its log was read.
func (s *Supervisor) learnt(r *replica, f *registry.Failure) {
	now := s.Clock.SinceBoot()
	v := r.past.State.Learnt(r.policy(), restarts.ClassOf(f.Code), now, r.unit.name, r.unit.phase == reconcile.Backoff)
	switch {
	case r.wait.err != nil && v.Breaker == restarts.Open:
		r.wait.err = openErr(v, f, r.id.Pool)
	case v.Longer:
		r.wait.set(v.Next, now)
		r.wait.early = r.wait.on
		s.Log.Info(fmt.Sprintf("%s: the next start is put off, it is due in %s", r.id, rounded(v.Delay)), append(s.about(r),
			"backoff_ms", v.Delay.Milliseconds(), "restart_count", r.restarts(), "next_restart_ms", time.Now().Add(v.Delay).UnixMilli(), "class", string(v.Cause))...)
	}
	s.mark(r)
}

// gaveUp notes that PID 1 starts the unit no more: the breaker opens, if it has not already.
func (s *Supervisor) gaveUp(r *replica) {
	if r.wait.early || !r.wish.known {
		return // it was taken from PID 1 already, or it is not known what would be due
	}
	f := r.last.crash
	if f == nil {
		f = registry.Fail(registry.CodeEngineCrashed, "PID 1 does not start the unit any more", "Read journalctl -u '"+r.unit.name+"'.")
	}
	r.job.startAt = time.Time{} // the hold tells when
	now, was := s.Clock.SinceBoot(), r.past.State.BreakerNow()
	s.judged(r, r.past.State.Gave(r.policy(), now, r.unit.name), was, f, now)
}

// judged carries a verdict out.
func (s *Supervisor) judged(r *replica, v restarts.Verdict, was restarts.Breaker, f *registry.Failure, now time.Time) {
	r.wait.set(v.Next, now)
	r.wait.early = v.Longer || tooEarly(v.Backoff, r.backoff())
	r.wait.err = nil
	if v.Breaker == restarts.Open {
		r.wait.err = openErr(v, f, r.id.Pool)
	}
	if r.runs() { // PID 1 was faster than the log
		r.wait.end()
	}
	attrs := append(s.about(r), "backoff_ms", v.Delay.Milliseconds(), "restart_count", r.restarts(), "next_restart_ms", time.Now().Add(v.Delay).UnixMilli(),
		"class", string(v.Cause), "breaker", string(v.Breaker))
	s.Log.Info(fmt.Sprintf("%s: the next start is due in %s", r.id, rounded(v.Delay)), attrs...)
	if v.Began {
		cause := fmt.Sprintf("the engines restart too often, mostly by %s; restarts are held back. %s", v.Cause, v.Advice)
		s.Log.Warn(cause, attrs...)
		s.Registry.Note(registry.Event{Kind: registry.KindStorm, PoolID: r.id.Pool, ReplicaID: r.id.Name(), State: r.view.state, Cause: cause, Failure: f})
		s.Observer.Storm(r.entry.last, string(v.Cause))
	}
	s.breakerMoved(r, was)
	s.mark(r)
}

// tooEarly reports whether PID 1 would start a unit clearly before it is due: below systemd 254 its delay does not grow. One that is not known
// is left alone.
func tooEarly(due, pid1 time.Duration) bool { return pid1 > 0 && due > pid1+pid1/4 }

// openErr says that the breaker is open, and after which failure.
func openErr(v restarts.Verdict, f *registry.Failure, pool string) *registry.Failure {
	open := registry.Fail(registry.CodeBreakerOpen, fmt.Sprintf("%s in a row; the last: %s", count(v.Failures, "failure"), f.Error()), hintOf(v, f, pool))
	open.Ending = f.Ending
	return open
}

// hintOf is the remedy of an open breaker.
func hintOf(v restarts.Verdict, f *registry.Failure, pool string) string {
	hint := v.Advice
	if hint == "" {
		hint = f.Hint
	}
	return hint + " poolctl reset " + pool + " closes the breaker."
}

// runs reports whether the engine has a process, so that its next start is not held back yet. A unit with a job looks as if it started, and it
// may be the job by which it is taken from PID 1.
func (r *replica) runs() bool {
	return r.unit.phase == reconcile.Starting && r.unit.status.ActiveState == "activating" || r.unit.phase == reconcile.Active
}

// breakerMoved tells that the breaker is in another state.
func (s *Supervisor) breakerMoved(r *replica, was restarts.Breaker) {
	is := r.past.State.BreakerNow()
	if is == was {
		return
	}
	cause := fmt.Sprintf("the breaker is %s, it was %s", is, was)
	s.Log.Info(fmt.Sprintf("%s: %s", r.id, cause), s.about(r)...)
	s.Registry.Note(registry.Event{Kind: registry.KindBreaker, PoolID: r.id.Pool, ReplicaID: r.id.Name(), State: r.view.state, Cause: cause, Failure: r.wait.err})
	s.Observer.Breaker(r.entry.last, string(is))
}

// beginRun notes that a run starts: after an open breaker it is the single trial. It returns until when the breaker refuses it; zero: it does not.
func (s *Supervisor) beginRun(r *replica) (refused time.Time) {
	now, was := s.Clock.SinceBoot(), r.past.State.BreakerNow()
	err := r.past.State.Started(r.policy(), now)
	var no *restarts.Refused
	if errors.As(err, &no) && no.Until.After(now) {
		return no.Until
	}
	r.wait.end()
	s.breakerMoved(r, was)
	s.mark(r)
	return time.Time{}
}

// endRun notes that a run was stopped on purpose, or did not come to be: a trial that ends so told nothing.
func (s *Supervisor) endRun(r *replica) {
	was := r.past.State.BreakerNow()
	r.past.State.Stopped(r.policy(), s.Clock.SinceBoot())
	s.breakerMoved(r, was)
	s.mark(r)
}

// proven notes how long a replica has been ready: the breaker closes, and in the end all failures are forgotten, by PID 1 too.
func (s *Supervisor) proven(r *replica) {
	if r.run.readySince.IsZero() || !r.wish.known {
		return
	}
	now, was := s.Clock.SinceBoot(), r.past.State.BreakerNow()
	change := r.past.State.Stable(r.policy(), r.run.readySince, now)
	if change.Forgotten {
		s.resetCounters(r, "the engine has run well for long enough: its failures are forgotten")
	}
	if change.Closed || change.Calm || change.Forgotten {
		s.breakerMoved(r, was)
		s.mark(r)
	}
	if next := r.past.State.NextStable(r.policy(), r.run.readySince); !next.IsZero() {
		s.wakeAt(time.Now().Add(next.Sub(now)))
	}
}

// anew notes that the engine gets a new unit, which counts from 0. One that failed for good, or was taken from PID 1, had been restarted before, and
// is again now.
func (s *Supervisor) anew(r *replica) {
	if r.unit.phase == reconcile.Broken {
		r.past.Base += r.unit.status.NRestarts + 1
		r.unit.status.NRestarts = 0
	}
	r.past.Base += r.past.Taken
	r.past.Seen, r.past.Due, r.past.Taken = 0, false, 0
	s.mark(r)
}

// resetCounters has PID 1 forget the restarts of a unit that it has, so that its backoff and its start limit begin anew.
func (s *Supervisor) resetCounters(r *replica, why string) {
	if !r.unit.phase.Exists() || r.unit.status.NRestarts == 0 || r.external() {
		return
	}
	unit, forgotten := r.unit.name, r.unit.status.NRestarts
	s.effect(func(ctx context.Context) func() {
		err := s.PID1.ResetCounters(ctx, unit)
		return func() {
			if err != nil {
				s.Log.Warn("PID 1 did not forget the unit's restarts", append(s.about(r), "err", err)...)
				return
			}
			s.Log.Info(why, append(s.about(r), "forgotten", forgotten)...)
		}
	}, func(error) {})
}

// restarts is how often the engine was started again, whoever did it and whatever PID 1 has forgotten.
func (r *replica) restarts() int {
	if r.past.Taken > 0 {
		return r.past.Base + r.past.Taken - 1
	}
	return r.past.Base + r.unit.status.NRestarts
}

// Reset closes the breaker of a pool and forgets its failures; what waits is started now. It returns when the loop has taken it:
// ErrNoSuchPool or the context's error.
func (s *Supervisor) Reset(ctx context.Context, id, by string) error {
	return s.onLoop(ctx, id, func(e *entry, answer func(error)) {
		s.Log.Info(fmt.Sprintf("pool %s: its failures are forgotten by %s", id, who(by)), "pool_id", id, "identity", by)
		for _, r := range e.sorted() {
			s.forgive(r)
			s.resetCounters(r, "PID 1 has forgotten the unit's restarts too") // or its start limit would open the breaker at once
			s.settle(r)
		}
		answer(nil)
	})
}

// forgive forgets a replica's failures: an operator asks for it, or the replica is to run something else now.
func (s *Supervisor) forgive(r *replica) {
	was := r.past.State.BreakerNow()
	r.past.State.Reset()
	r.wait.end()
	r.prep.forgetAttempts()
	r.job.forgetAttempts()
	r.gpu.freed = r.unit.phase == reconcile.Backoff
	s.breakerMoved(r, was)
	s.mark(r)
}
