package restarts

import (
	"fmt"
	"time"
)

// Breaker is the state of a replica's circuit breaker.
type Breaker string

// The states. Half-open lasts as long as its single trial does.
const (
	Closed   Breaker = "closed"
	Open     Breaker = "open"
	HalfOpen Breaker = "half-open"
)

// Event is an input of a breaker.
type Event string

// The events.
const (
	Fail   Event = "failed"  // a run failed
	GaveUp Event = "gave up" // PID 1's start limit was hit
	Start  Event = "start"   // a start is requested
	Stop   Event = "stopped" // the run was stopped on purpose, or is gone without a failure
	Steady Event = "stable"  // the run was ready for breaker_stable
	Reset  Event = "reset"   // an operator closed the breaker
)

// Refused is an event that the state does not allow: a start that must not be made.
type Refused struct {
	Breaker Breaker
	Event   Event
	Why     string
	Until   time.Time // when to try again; zero if waiting does not help
}

// Error names the state and the reason.
func (r *Refused) Error() string {
	return fmt.Sprintf("%s while the breaker is %s: %s", r.Event, r.Breaker, r.Why)
}

// input has the arguments of an event.
type input struct {
	policy Policy
	at     time.Time
	seed   string
}

// row is a transition: the first row of the state and event whose condition holds applies. A row
// without To refuses.
type row struct {
	From  Breaker
	Event Event
	When  string // text for the printed table
	Holds func(*State, input) bool
	To    Breaker
	Does  string // text for the printed table
	Do    func(*State, input)
}

func always(*State, input) bool { return true }
func nothing(*State, input)     {}

func due(s *State, in input) bool { return !in.at.Before(s.Until) }

// breakerTable defines the breaker. Each state has at least one row for each event.
var breakerTable = []row{
	{Closed, Fail, "fewer than `breaker_failures` of its kind within `breaker_window`",
		func(s *State, in input) bool { return !s.tripped(in) }, Closed, "the next start waits for its backoff", nothing},
	{Closed, Fail, "", always, Open, "for `breaker_timeout`", (*State).open},
	{Closed, GaveUp, "", always, Open, "for `breaker_timeout`", (*State).open},
	{Closed, Start, "", always, Closed, "a normal start", (*State).begun},
	{Closed, Stop, "", always, Closed, "nothing: earlier failures still count", nothing},
	{Closed, Steady, "", always, Closed, "nothing: earlier failures count until `reset_after`", nothing},
	{Closed, Reset, "", always, Closed, "all failures are reset", (*State).clear},

	{Open, Fail, "", always, Open, "its timeout stays: the run was not started by the manager", nothing},
	{Open, GaveUp, "", always, Open, "its timeout stays", nothing},
	{Open, Start, "its timeout is not over", func(s *State, in input) bool { return !due(s, in) }, "", "no start is made before its timeout is over", nothing},
	{Open, Start, "", always, HalfOpen, "the single trial", (*State).begun},
	{Open, Stop, "", always, Open, "its timeout stays", nothing},
	{Open, Steady, "", always, Closed, "a run that was not started by the manager is stable", (*State).closed},
	{Open, Reset, "", always, Closed, "all failures are reset", (*State).clear},

	{HalfOpen, Fail, "", always, Open, "for twice the last timeout, up to `breaker_max`", (*State).open},
	{HalfOpen, GaveUp, "", always, Open, "for twice the last timeout, up to `breaker_max`", (*State).open},
	{HalfOpen, Start, "", always, "", "a trial is already running", nothing},
	{HalfOpen, Stop, "", always, Open, "the trial has no result: another is allowed at once", nothing},
	{HalfOpen, Steady, "", always, Closed, "the trial is stable", (*State).closed},
	{HalfOpen, Reset, "", always, Closed, "all failures are reset; the trial continues as a normal run", (*State).clear},
}

// move applies the event's transition. If there is none, it returns a *Refused and does not change
// the state.
func (s *State) move(e Event, in input) error {
	from := s.BreakerNow()
	for _, r := range breakerTable {
		if r.From != from || r.Event != e || !r.Holds(s, in) {
			continue
		}
		if r.To == "" {
			return &Refused{Breaker: from, Event: e, Why: r.Does, Until: s.refusedUntil()}
		}
		s.Breaker = r.To
		r.Do(s, in)
		return nil
	}
	return &Refused{Breaker: from, Event: e, Why: "unknown state or event"}
}

// refusedUntil is when to try a refused start again, zero during a trial.
func (s *State) refusedUntil() time.Time {
	if s.BreakerNow() == Open {
		return s.Until
	}
	return time.Time{}
}

// tripped reports whether the class of the newest failure has enough failures to open the breaker.
// A failure whose log is unread may be of another class.
func (s *State) tripped(in input) bool {
	if len(s.Recent) == 0 || in.policy.BreakerFailures <= 0 {
		return false
	}
	f := s.Recent[len(s.Recent)-1]
	return !f.Unread && s.Count(in.policy, f.Class, in.at) >= in.policy.BreakerFailures
}

// Count is how many failures of a class are in the breaker's window. A failure that was not
// observed may be of any class.
func (s *State) Count(p Policy, c Class, at time.Time) (n int) {
	for _, f := range s.Recent {
		if (f.Class.counted() == c.counted() || f.Unseen) && (p.BreakerWindow <= 0 || at.Sub(f.At) < p.BreakerWindow) {
			n++
		}
	}
	return n
}

// full reports whether the failures of all classes reach PID 1's start limit.
func (s *State) full(p Policy, at time.Time) bool {
	return p.BreakerFailures > 0 && s.counted(p, at) >= p.BreakerFailures
}

// counted is how many failures of any class are in the breaker's window.
func (s *State) counted(p Policy, at time.Time) (n int) {
	for _, f := range s.Recent {
		if p.BreakerWindow <= 0 || at.Sub(f.At) < p.BreakerWindow {
			n++
		}
	}
	return n
}

// open sets the breaker's timeout, which doubles with each consecutive opening. Its jitter only
// adds: breakers that opened together make their trials at different times, and none early.
func (s *State) open(in input) {
	p := in.policy
	longest := max(p.BreakerMax, p.BreakerTimeout)
	wait := max(p.BreakerTimeout, 0)
	for range s.Opened {
		if wait = plus(wait, wait); wait <= 0 || wait >= longest {
			break
		}
	}
	s.Opened++
	s.Tripped = s.Cause
	wait = scale(min(wait, longest), 1+p.jitter()*(1+spread(in.seed, s.Total+s.Opened))/2)
	s.Until = in.at.Add(wait)
	s.Next = s.Until
}

// begun clears the time of the next start, which is made now.
func (s *State) begun(input) { s.Next = time.Time{} }

// closed resets the breaker's count. The backoff's count stays until reset_after, as PID 1's does.
func (s *State) closed(input) {
	s.Until, s.Opened, s.Next, s.Recent = time.Time{}, 0, time.Time{}, nil
	s.Tripped = ""
}

// clear resets everything but the total.
func (s *State) clear(input) { *s = State{Breaker: Closed, Total: s.Total} }
