package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/restarts"
)

// Histories keeps what is known of past failures over a restart of the manager, and not over a
// reboot. Put is called beside the loop.
type Histories interface {
	Put(key string, value json.RawMessage) error
	Drop(key string) error
}

// history is what a replica's failures come to, as it is written down.
type history struct {
	State   restarts.State  `json:"state"`
	Runs    restarts.Ledger `json:"runs"`
	Steady  int             `json:"steady,omitempty"`  // restarts when failures were last forgotten
	Carried int             `json:"carried,omitempty"` // restarts of the replica's former side
	InRow   bool            `json:"in_row,omitempty"`  // the unit was started after failures: PID 1 goes on with them
	Ours    bool            `json:"ours,omitempty"`    // the manager makes the next start
	Disk    *heldDisk       `json:"disk,omitempty"`    // it was stopped for what it has on the disk

	policy policyOf // not written down
}

// policyOf is a restart policy with what it was made of.
type policyOf struct {
	file   pool.Restart
	stall  time.Duration
	policy restarts.Policy
}

// policy is the restart policy of what the replica runs. It is made again only where the file
// changed.
func (r *replica) policy() restarts.Policy {
	p := r.pool()
	if c := &r.past.policy; c.file != p.Restart || c.stall != p.Health.StartTimeout {
		*c = policyOf{p.Restart, p.Health.StartTimeout, restarts.PolicyOf(p)}
	}
	return r.past.policy.policy
}

// loadHistory gives a replica the history that a former manager wrote down.
func (s *Supervisor) loadHistory(r *replica) {
	text, known := s.o.SavedHistories[r.id.String()]
	if !known {
		return
	}
	if err := json.Unmarshal(text, &r.past); err != nil {
		s.o.Log.Warn("could not read the replica's past failures; they no longer count",
			append(r.entry.about(), "replica_id", r.id.Name(), "err", err)...)
		r.past = history{}
	}
	if held := r.past.Disk; held != nil {
		r.unit.disk = diskUse{held.Used, held.Size, held.Full, true}
	}
	now := s.o.Clock.SinceBoot()
	r.wait.set(r.past.State.Next, now)
	r.wait.ours = r.past.Ours
	s.readFormer(r)
	if st := r.past.State; st.BreakerNow() == restarts.Open && r.wait.on {
		r.wait.err = registry.Fail(registry.CodeBreakerOpen,
			fmt.Sprintf("%s in a row, mostly by %s", count(st.Failures, "failure"), st.By()),
			strings.TrimSpace(st.By().Advice()+" poolctl reset "+r.id.Pool+" closes the breaker."))
	}
}

// saveHistory writes a replica's history down, beside the loop. What is not written is counted
// again from zero after the next restart of the manager.
func (s *Supervisor) saveHistory(r *replica) {
	if s.o.Histories == nil {
		return
	}
	r.past.Ours = r.wait.ours || r.job.action == reconcile.Defer
	text, err := json.Marshal(r.past)
	if err != nil {
		s.o.Log.Error("could not encode the replica's past failures", append(s.about(r), "err", err)...)
		return
	}
	s.unsaved[r.id.String()] = text
	s.writeHistories()
}

// dropHistory forgets the history of a replica that was removed.
func (s *Supervisor) dropHistory(r *replica) {
	delete(s.o.SavedHistories, r.id.String())
	if s.o.Histories != nil {
		s.unsaved[r.id.String()] = nil
		s.writeHistories()
	}
}

// dropUnknownHistories forgets the history of pools that were removed while no manager ran.
func (s *Supervisor) dropUnknownHistories() {
	for key := range s.o.SavedHistories {
		id, _, _ := strings.Cut(key, "/")
		if s.entries[id] != nil {
			continue
		}
		delete(s.o.SavedHistories, key)
		if s.o.Histories != nil {
			s.unsaved[key] = nil
			s.writeHistories()
		}
	}
}

// writeHistories writes what has changed, one batch at a time, so that an older value never comes
// after a newer one.
func (s *Supervisor) writeHistories() {
	if s.savingHistories || len(s.unsaved) == 0 {
		return
	}
	batch := s.unsaved
	s.savingHistories, s.unsaved = true, make(map[string]json.RawMessage)
	s.effect(func(context.Context) func() {
		var failed error
		for key, value := range batch {
			keep := func() error { return s.o.Histories.Put(key, value) }
			if value == nil {
				keep = func() error { return s.o.Histories.Drop(key) }
			}
			if err := keep(); err != nil {
				failed = err
			}
		}
		return func() {
			if failed != nil {
				s.o.Log.Warn("could not save past failures of engines", "err", failed)
			}
			s.savingHistories = false
			s.writeHistories()
		}
	}, func(error) { s.savingHistories = false })
}

// gaveUp notes that PID 1 starts the unit no longer: the breaker opens, if it has not already. A
// unit that was started after failures has fewer starts in PID 1 than the policy, and the failures
// before it may no longer count, or be of another class: then the manager makes the next start.
func (s *Supervisor) gaveUp(r *replica) {
	if r.wait.ours || r.past.InRow || !r.wish.known {
		return // it was taken from PID 1 already, or it is not known what would be due
	}
	f := r.last.crash
	if f == nil {
		f = registry.Fail(registry.CodeEngineCrashed, "PID 1 no longer starts the unit", readLogs(r.unit.name))
	}
	r.job.startAt = time.Time{} // the hold reports when
	now, was := s.o.Clock.SinceBoot(), r.past.State.BreakerNow()
	s.delayStart(r, r.past.State.Gave(r.policy(), now, r.unit.name), was, f, now)
}

// openErr says that the breaker is open, and after which failure.
func openErr(v restarts.Verdict, f *registry.Failure, pool string) *registry.Failure {
	open := registry.Fail(registry.CodeBreakerOpen, fmt.Sprintf("%s in a row, %d by %s; the last: %s", count(v.Failures,
		"failure"), v.Counted, v.Cause, f.Error()), hintOf(v, f, pool))
	open.Ending = f.Ending
	return open
}

// hintOf is the hint of an open breaker: that of the last failure, which knows the line and the
// key, or, where that only names the log, the advice about its class.
func hintOf(v restarts.Verdict, f *registry.Failure, id string) string {
	hint := f.Hint
	if v.Advice != "" && (hint == "" || hint == readLogs(pool.Replica{Pool: id}.Unit())) {
		hint = v.Advice
	}
	return hint + " poolctl reset " + id + " closes the breaker."
}

// runs reports whether the engine has a process, so that its next start is not held back yet. A
// unit with a job looks as if it started, and it may be the job by which it is taken from PID 1.
func (r *replica) runs() bool {
	return r.unit.phase == reconcile.Starting && r.unit.status.ActiveState == "activating" ||
		r.unit.phase == reconcile.Active
}

// beginRun notes that a run starts: after an open breaker it is the single trial. It returns until
// when the breaker refuses it; zero: it does not.
func (s *Supervisor) beginRun(r *replica) (refused time.Time) {
	now, was := s.o.Clock.SinceBoot(), r.past.State.BreakerNow()
	err := r.past.State.Started(r.policy(), now)
	var no *restarts.Refused
	if errors.As(err, &no) && no.Until.After(now) {
		return no.Until
	}
	r.wait.end()
	s.reportBreaker(r, was)
	s.saveHistory(r)
	return time.Time{}
}

// endRun notes that a run was stopped on purpose, or did not come to be: a trial that ends proved
// nothing.
func (s *Supervisor) endRun(r *replica) {
	was := r.past.State.BreakerNow()
	r.past.State.Stopped(r.policy(), s.o.Clock.SinceBoot())
	s.reportBreaker(r, was)
	s.saveHistory(r)
}

// noteStable records how long a replica has been ready: the breaker closes, and in the end all
// failures are forgotten, by PID 1 too.
func (s *Supervisor) noteStable(r *replica, ready bool) {
	switch {
	case !ready:
		r.run.readySince = time.Time{}
	case r.run.readySince.IsZero():
		r.run.readySince = s.o.Clock.SinceBoot()
		s.lowerNeed(r)
	}
	if !ready || !r.wish.known {
		return
	}
	now, was := s.o.Clock.SinceBoot(), r.past.State.BreakerNow()
	change := r.past.State.Stable(r.policy(), r.run.readySince, now)
	if change.Forgotten {
		r.past.Steady = r.restarts()
		s.resetCounters(r, "the engine has run well for long enough; its failure counts are reset")
	}
	if change.Closed || change.Calm || change.Forgotten {
		s.reportBreaker(r, was)
		s.saveHistory(r)
	}
	if next := r.past.State.NextStable(r.policy(), r.run.readySince); !next.IsZero() {
		s.wakeAt(r.entry, time.Now().Add(next.Sub(now)))
	}
}

// resetCounters has PID 1 forget the restarts of a unit that it has, so that its backoff and its
// start limit start again from zero.
func (s *Supervisor) resetCounters(r *replica, why string) {
	// A first failure that still waits for its restart counts for PID 1's start limit, and not for
	// NRestarts.
	never := r.unit.status.NRestarts == 0 && r.unit.phase != reconcile.Backoff
	if !r.unit.phase.Exists() || never || r.external() {
		return
	}
	unit, forgotten := r.unit.name, r.unit.status.NRestarts
	s.effect(func(ctx context.Context) func() {
		err := s.o.PID1.ResetCounters(ctx, unit)
		return func() {
			if err != nil {
				s.o.Log.Warn("PID 1 did not reset the unit's restart counter", append(s.about(r), "err", err)...)
				return
			}
			s.o.Log.Info(why, append(s.about(r), "forgotten", forgotten)...)
		}
	}, func(error) {})
}

// Reset closes the breaker of a pool and forgets its failures; what waits is started now. It
// returns when the loop has taken it: ErrNoSuchPool or the context's error.
func (s *Supervisor) Reset(ctx context.Context, id, by string) error {
	return s.onLoop(ctx, id, func(e *entry, answer func(error)) {
		s.o.Log.Info(fmt.Sprintf("pool %s: failure counts reset by %s", id, who(by)),
			append(caused(e.about(), registry.Correlation(ctx)), "identity", by)...)
		for _, r := range e.sorted() {
			s.resetFailures(r)
			if r.unit.phase != reconcile.Backoff { // or its start limit would open the breaker at once
				s.resetCounters(r, "the unit's restart counter in PID 1 is reset, too")
			}
			s.settle(r)
		}
		answer(nil)
	})
}

// resetFailures forgets a replica's failures: an operator asks for it, or the replica is to run
// something else now.
func (s *Supervisor) resetFailures(r *replica) {
	was := r.past.State.BreakerNow()
	r.past.State.Reset()
	r.past.Steady = r.restarts()
	if r.wait.end(); r.unit.phase == reconcile.Backoff {
		r.wait.take()
	}
	r.prep.forgetAttempts()
	r.job.forgetAttempts()
	s.reportBreaker(r, was)
	s.saveHistory(r)
}
