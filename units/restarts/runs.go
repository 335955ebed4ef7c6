package restarts

import (
	"slices"
	"time"
)

// Failed takes note of one run that ended badly at a time, and says when the next may start. The seed is the replica's unit: it decides
// the jitter. Times must not go back; whoever calls maps them to a clock that nobody sets.
func (s *State) Failed(p Policy, c Class, at time.Time, seed string) Verdict {
	at = plain(at)
	s.Total++
	s.Failures++
	s.Cause = c
	s.Recent = append(s.Recent, Failed{At: at, Class: c})
	s.trim(p, at)
	began, wait := s.storm(p, at)
	backoff := p.backoff(s.Failures, c, seed)
	before := s.BreakerNow()
	_ = s.move(Fail, input{p, at, seed}) // no row refuses a failure
	s.Next = at.Add(max(backoff, wait))
	if s.Breaker == Open && s.Until.After(s.Next) {
		s.Next = s.Until
	}
	v := s.verdict(at)
	v.Backoff, v.Began, v.Opened = backoff, began, before != Open && s.Breaker == Open
	v.Longer = v.Breaker == Open || wait > backoff || c.slow() && atLeastOne(p.ClassFactor) > 1
	return v
}

// Learnt takes note of what the newest failure really was, which its log may tell later than the failure itself. waits says that the next run
// has not begun: then a class that waits longer puts it off, and the verdict is Longer.
func (s *State) Learnt(p Policy, c Class, at time.Time, seed string, waits bool) Verdict {
	longer := false
	if n := len(s.Recent); n > 0 && !s.Recent[n-1].Unseen {
		last := &s.Recent[n-1]
		due := last.At.Add(p.backoff(s.Failures, c, seed))
		if waits && c.slow() && !last.Class.slow() && s.BreakerNow() == Closed && due.After(s.Next) {
			s.Next, longer = due, true
		}
		last.Class = c
	}
	s.Cause = c
	v := s.verdict(plain(at))
	v.Longer = longer
	return v
}

// Restarted takes note of n further runs that ended badly while no manager looked, as PID 1's counter tells. They count for the total,
// the backoff and the breaker, but open nothing by themselves: PID 1 counted them too, and did not give up. When they ended is not
// known, so they are no storm.
func (s *State) Restarted(p Policy, n int, at time.Time) {
	if n <= 0 {
		return
	}
	at = plain(at)
	s.Total += n
	s.Failures += n
	for range min(n, max(p.BreakerFailures-1, 0)) {
		s.Recent = append(s.Recent, Failed{At: at, Class: Unknown, Unseen: true})
	}
	s.trim(p, at)
}

// Gave takes note that PID 1 gave up: its start limit was hit. The breaker opens; the failures themselves were told before.
func (s *State) Gave(p Policy, at time.Time, seed string) Verdict {
	at = plain(at)
	before := s.BreakerNow()
	_ = s.move(GaveUp, input{p, at, seed}) // no row refuses it
	v := s.verdict(at)
	v.Longer, v.Opened = true, before != Open
	return v
}

// Started takes note that a run starts now, or returns a *Refused: the breaker is open, or its trial runs already. A start from an open
// breaker whose time is over is the trial, and the breaker is half-open from then on.
func (s *State) Started(p Policy, at time.Time) error {
	return s.move(Start, input{policy: p, at: plain(at)})
}

// Stopped takes note that the run was stopped on purpose, or is gone without having failed. A trial that ends so told nothing.
func (s *State) Stopped(p Policy, at time.Time) { _ = s.move(Stop, input{policy: p, at: plain(at)}) }

// Stable takes note that the run has been ready, without a break, from since until at. After StableAfter the breaker closes and a storm
// is over; after ResetAfter, and no sooner than that, all failures are forgotten.
func (s *State) Stable(p Policy, since, at time.Time) Change {
	since, at = plain(since), plain(at)
	var c Change
	if at.Sub(since) >= p.StableAfter && s.steadies() {
		c.Closed, c.Calm = s.BreakerNow() != Closed, s.Storm
		_ = s.move(Steady, input{policy: p, at: at}) // no row refuses it
		s.Storm = false
	}
	if at.Sub(since) >= p.ResetAfter && s.counts() && !s.steadies() {
		c.Forgotten = true
		s.clear(input{})
	}
	return c
}

// NextStable is when Stable would next change anything for a run that is ready since then; zero when nothing is left to change.
func (s *State) NextStable(p Policy, since time.Time) time.Time {
	since = plain(since)
	switch {
	case s.steadies():
		return since.Add(p.StableAfter)
	case s.counts():
		return since.Add(p.ResetAfter)
	}
	return time.Time{}
}

// steadies reports whether a run that is stable for StableAfter changes anything.
func (s *State) steadies() bool { return s.BreakerNow() != Closed || s.Storm }

// counts reports whether anything is left to forget after ResetAfter.
func (s *State) counts() bool { return s.Failures > 0 || len(s.Recent) > 0 }

// verdict is the state as its caller carries it out.
func (s *State) verdict(at time.Time) Verdict {
	v := Verdict{Breaker: s.BreakerNow(), Next: s.Next, Storm: s.Storm, Cause: s.Cause, Failures: s.Failures, Total: s.Total}
	if v.Next.IsZero() {
		v.Next = at
	}
	v.Delay = max(v.Next.Sub(at), 0)
	if v.Breaker == Open {
		v.Until = s.Until
	}
	if s.Storm {
		v.Cause = s.mostly()
	}
	if s.Storm || v.Breaker == Open {
		v.Advice = v.Cause.Advice()
	}
	return v
}

// trim drops the failures that nothing counts any more.
func (s *State) trim(p Policy, at time.Time) {
	if p.BreakerWindow > 0 {
		window := max(p.BreakerWindow, p.StormWindow)
		s.Recent = slices.DeleteFunc(s.Recent, func(f Failed) bool { return at.Sub(f.At) >= window })
	}
	most := max(p.BreakerFailures, p.StormRestarts+1, 1)
	if over := len(s.Recent) - most; over > 0 {
		s.Recent = slices.Clone(s.Recent[over:])
	}
	if len(s.Recent) == 0 {
		s.Recent = nil // as JSON gives it back
	}
}

// plain is a time that JSON gives back as it was: in UTC, without the reading of the monotonic clock.
func plain(t time.Time) time.Time { return t.Round(0).UTC() }
