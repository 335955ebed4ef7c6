// Package restarts decides when a failed engine may start again: the backoff, the limit of restart
// storms, and the breaker.
//
// It owns the breaker's table of states and transitions, and the part of a replica's state that
// must survive a restart of the manager. It must not know how an engine is started or stopped, and
// reads neither clock nor disk: its caller passes the time, keeps the state, and carries out the
// verdicts. Nothing here is safe for concurrent use; one replica's state has one owner.
package restarts

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Policy is the reaction to a failed run. Its zero value never waits and has no limits.
type Policy struct {
	Initial     time.Duration // before the first restart
	Factor      float64       // of growth with each further failure; below 1 counts as 1
	Max         time.Duration // the longest, before jitter and class
	Jitter      float64       // part of the delay by which it varies, 0..1
	ClassFactor float64       // for CUDA and driver errors; below 1 counts as 1
	ResetAfter  time.Duration // ready for that long: all failures are reset

	StormRestarts int // most restarts in StormWindow; 0 is no limit
	StormWindow   time.Duration

	BreakerFailures int           // failures of one class in BreakerWindow that open the breaker; 0 is never
	BreakerWindow   time.Duration // 0 is unlimited
	BreakerTimeout  time.Duration // open for that long, the first time
	BreakerMax      time.Duration // the longest; below BreakerTimeout it counts as that
	StableAfter     time.Duration // ready for that long: the breaker closes
}

// PolicyOf is the policy of a pool's file. Its breaker counts over Window, as PID 1's start limit
// does.
func PolicyOf(p pool.Pool) Policy {
	r := p.Restart
	return Policy{
		Initial: r.Initial, Factor: r.Factor, Max: r.Max, Jitter: r.Jitter, ClassFactor: r.ClassFactor,
		ResetAfter:    r.ResetAfter,
		StormRestarts: r.StormRestarts, StormWindow: r.StormWindow,
		BreakerFailures: r.BreakerFailures, BreakerWindow: Window(r, p.Health.StartTimeout),
		BreakerTimeout: r.BreakerTimeout, BreakerMax: r.BreakerMax, StableAfter: r.BreakerStable,
	}
}

// Window is the time over which failures are counted for the breaker, by PID 1 too: breaker_window,
// or the time that this many failures take by themselves if that is longer, or the breaker would
// never open. That is the longest delays between their starts and, for each start, the longest time
// that a load may stall. 0 if nothing is counted.
func Window(r pool.Restart, stall time.Duration) time.Duration {
	if r.BreakerFailures <= 0 {
		return 0
	}
	p := Policy{Initial: r.Initial, Factor: r.Factor, Max: r.Max, Jitter: r.Jitter, ClassFactor: r.ClassFactor}
	var need time.Duration
	for n := range r.BreakerFailures {
		need = plus(need, plus(scale(p.Backoff(n), atLeastOne(p.ClassFactor)*(1+p.jitter())), max(stall, 0)))
	}
	return max(r.BreakerWindow, plus(need.Truncate(time.Second), time.Second))
}

// State is the summary of one replica's failures. Its zero value is a replica that never failed. It
// is plain data for JSON.
type State struct {
	Breaker  Breaker   `json:"breaker,omitempty"` // empty is Closed
	Until    time.Time `json:"until,omitzero"`    // of an open breaker: no start before
	Opened   int       `json:"opened,omitempty"`  // times in a row that the breaker opened: its time doubles with each
	Failures int       `json:"failures,omitempty"`
	Total    int       `json:"total,omitempty"` // failed runs, ever: it never decreases
	Next     time.Time `json:"next,omitzero"`   // no start before, by the last verdict; zero if a run began since
	Storm    bool      `json:"storm,omitempty"`
	Cause    Class     `json:"cause,omitempty"`   // of the last failure
	Tripped  Class     `json:"tripped,omitempty"` // the class that opened the breaker
	Recent   []Failed  `json:"recent,omitempty"`  // oldest first; no more than the policy counts
}

// Failed is one failed run.
type Failed struct {
	At    time.Time `json:"at"`
	Class Class     `json:"class"`
	Run   string    `json:"run,omitempty"` // its invocation
	// Unread means that the run's log may still show another class.
	Unread bool `json:"unread,omitempty"`
	// Unseen means that the end of the run was not observed: At is when it was learnt, so it does
	// not count for a storm.
	Unseen bool `json:"unseen,omitempty"`
}

// Verdict is the result of a failure.
type Verdict struct {
	// Delay is the total time from the failure to the next start: backoff with jitter and class,
	// the storm's limit, the breaker's timeout.
	Delay   time.Duration
	Next    time.Time     // the failure's time and Delay
	Backoff time.Duration // the part that is backoff with jitter and class
	Least   time.Duration // the shortest backoff that the jitter allows
	Most    time.Duration // the longest
	// Longer means that PID 1 must not make the next start: Delay is more than the backoff, because
	// of a storm, the breaker or a log that is not read yet, or PID 1's start limit would refuse
	// it.
	Longer bool
	Unread bool // the class may change: the run's log is not read yet

	Breaker  Breaker
	Until    time.Time // of an open breaker; else zero
	Opened   bool      // it opened with this failure
	Storm    bool      // restarts are rate-limited
	Began    bool      // the storm began with this failure
	Cause    Class     // of this failure; in a storm, of most failures in it; of an open breaker, what opened it
	Failures int       // in a row
	Counted  int       // failures of Cause that are kept; in a storm, all failures in its window
	Total    int
	Advice   string // what to do about the cause, a sentence; only for an open breaker or in a storm
}

// Change is what a stable run changed.
type Change struct {
	Closed    bool // the breaker closed
	Calm      bool // the storm is over
	Forgotten bool // all failures were reset: PID 1's counter must be reset too
}

// Reset closes the breaker and resets everything but Total, on an operator's request or after a
// change of the pool.
func (s *State) Reset() { _ = s.move(Reset, input{}) }

// BreakerNow is the breaker's state: the zero State is closed.
func (s *State) BreakerNow() Breaker {
	if s.Breaker == "" {
		return Closed
	}
	return s.Breaker
}

// By is the class that opened the breaker, or that of the last failure while it is closed.
func (s *State) By() Class {
	if s.Tripped != "" {
		return s.Tripped
	}
	return s.Cause
}

// Unread reports whether the log of a counted run is not read yet.
func (s *State) Unread(run string) bool {
	i := s.find(run)
	return i >= 0 && s.Recent[i].Unread
}
