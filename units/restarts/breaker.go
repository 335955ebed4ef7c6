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

// Event is what may happen to a breaker.
type Event string

// The events.
const (
	Fail   Event = "failed"  // a run ended badly
	GaveUp Event = "gave up" // PID 1's start limit was hit
	Start  Event = "start"   // somebody wants to start a run
	Stop   Event = "stopped" // the run was stopped on purpose, or is gone without a failure
	Steady Event = "stable"  // the run was ready for breaker_stable
	Reset  Event = "reset"   // an operator closed the breaker
)

// Refused is an event that has no place in the state: a start that must not be made.
type Refused struct {
	Breaker Breaker
	Event   Event
	Why     string
	Until   time.Time // when it may be tried again; zero when no time helps
}

// Error names the state and the reason.
func (r *Refused) Error() string {
	return fmt.Sprintf("%s while the breaker is %s: %s", r.Event, r.Breaker, r.Why)
}

// input is what an event brings.
type input struct {
	policy Policy
	at     time.Time
	seed   string
}

// row is a transition: the first row of the state and event whose When holds is taken. A row without a To refuses.
type row struct {
	From  Breaker
	Event Event
	When  string // in words, for the printed table
	Holds func(*State, input) bool
	To    Breaker
	Does  string // in words, for the printed table
	Do    func(*State, input)
}

func always(*State, input) bool { return true }
func nothing(*State, input)     {}

func due(s *State, in input) bool { return !in.at.Before(s.Until) }

// breakerTable is the breaker. Each state has at least one row for each event.
var breakerTable = []row{
	{Closed, Fail, "fewer than `breaker_failures` of its kind within `breaker_window`",
		func(s *State, in input) bool { return !s.tripped(in) }, Closed, "the next start waits for its backoff", nothing},
	{Closed, Fail, "", always, Open, "for `breaker_timeout`", (*State).open},
	{Closed, GaveUp, "", always, Open, "for `breaker_timeout`", (*State).open},
	{Closed, Start, "", always, Closed, "a start like any other", (*State).begun},
	{Closed, Stop, "", always, Closed, "nothing: what failed before still counts", nothing},
	{Closed, Steady, "", always, Closed, "nothing: what failed before counts until `reset_after`", nothing},
	{Closed, Reset, "", always, Closed, "all failures are forgotten", (*State).clear},

	{Open, Fail, "", always, Open, "its time stays: somebody else had started the run", nothing},
	{Open, GaveUp, "", always, Open, "its time stays", nothing},
	{Open, Start, "its time is not over", func(s *State, in input) bool { return !due(s, in) }, "", "no start is made before its time is over", nothing},
	{Open, Start, "", always, HalfOpen, "the single trial", (*State).begun},
	{Open, Stop, "", always, Open, "its time stays", nothing},
	{Open, Steady, "", always, Closed, "a run that somebody else had started proved itself", (*State).closed},
	{Open, Reset, "", always, Closed, "all failures are forgotten", (*State).clear},

	{HalfOpen, Fail, "", always, Open, "for twice the time before, up to `breaker_max`", (*State).open},
	{HalfOpen, GaveUp, "", always, Open, "for twice the time before, up to `breaker_max`", (*State).open},
	{HalfOpen, Start, "", always, "", "a trial runs already", nothing},
	{HalfOpen, Stop, "", always, Open, "the trial told nothing: another may be made at once", nothing},
	{HalfOpen, Steady, "", always, Closed, "the trial proved itself", (*State).closed},
	{HalfOpen, Reset, "", always, Closed, "all failures are forgotten; the trial goes on as a run like any other", (*State).clear},
}

// move takes the event's transition. It returns a *Refused, and leaves the state as it was, where there is none.
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
	return &Refused{Breaker: from, Event: e, Why: "there is no such state or event"}
}

// refusedUntil is when a refused start may be tried again: a trial that runs has no such time.
func (s *State) refusedUntil() time.Time {
	if s.BreakerNow() == Open {
		return s.Until
	}
	return time.Time{}
}

// tripped reports whether the class of the newest failure has as many as open the breaker. One whose
// log is unread may be of another class.
func (s *State) tripped(in input) bool {
	if len(s.Recent) == 0 || in.policy.BreakerFailures <= 0 {
		return false
	}
	f := s.Recent[len(s.Recent)-1]
	return !f.Unread && s.Count(in.policy, f.Class, in.at) >= in.policy.BreakerFailures
}

// Count is how many failures of a class are in the breaker's window. A run that no one saw fail may
// have been of any class.
func (s *State) Count(p Policy, c Class, at time.Time) (n int) {
	for _, f := range s.Recent {
		if (f.Class.counted() == c.counted() || f.Unseen) && (p.BreakerWindow <= 0 || at.Sub(f.At) < p.BreakerWindow) {
			n++
		}
	}
	return n
}

// full reports whether the failures of all classes are as many as PID 1's start limit allows starts.
func (s *State) full(p Policy, at time.Time) bool {
	n := 0
	for _, f := range s.Recent {
		if p.BreakerWindow <= 0 || at.Sub(f.At) < p.BreakerWindow {
			n++
		}
	}
	return p.BreakerFailures > 0 && n >= p.BreakerFailures
}

// open sets the breaker's time, which doubles with each opening in a row. Its jitter only adds: breakers that opened together make
// their trials one after another, and none of them early.
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

// begun takes the note of when the next start may be: it is made.
func (s *State) begun(input) { s.Next = time.Time{} }

// closed forgets what the breaker counted. The backoff's count goes on until reset_after, as PID 1's does.
func (s *State) closed(input) {
	s.Until, s.Opened, s.Next, s.Recent = time.Time{}, 0, time.Time{}, nil
	s.Tripped = ""
}

// clear forgets all but how many runs ended badly.
func (s *State) clear(input) { *s = State{Breaker: Closed, Total: s.Total} }
