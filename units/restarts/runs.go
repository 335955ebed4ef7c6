package restarts

import (
	"slices"
	"time"
)

// unreadWait is the longest wait for the log of a run that decides whether the breaker opens.
const unreadWait = 30 * time.Second

// Failed records the failure of one run, and returns when the next may start. The seed of the
// jitter is the replica's unit. Times must not go back; the caller uses a clock that cannot be set.
func (s *State) Failed(p Policy, c Class, at time.Time, seed string) Verdict {
	return s.FailedRun(p, Failed{At: at, Class: c}, seed)
}

// FailedRun is Failed for a known run. If a log is still unread and its class decides whether the
// breaker opens, the next start waits for Learnt.
func (s *State) FailedRun(p Policy, f Failed, seed string) Verdict {
	f.At = plain(f.At)
	s.Total++
	s.Failures++
	s.Cause = f.Class
	s.Recent = append(s.Recent, f)
	s.trim(p, f.At)
	began, wait := s.storm(p, f.At)
	backoff := p.backoff(s.Failures, f.Class, seed)
	before := s.BreakerNow()
	_ = s.move(Fail, input{p, f.At, seed}) // no row refuses a failure
	s.Next = f.At.Add(max(backoff, wait))
	if s.BreakerNow() == Closed && s.full(p, f.At) && s.unread() {
		s.Next = f.At.Add(max(backoff, wait, unreadWait))
	}
	if s.Breaker == Open && s.Until.After(s.Next) {
		s.Next = s.Until
	}
	v := s.verdict(p, f.At)
	v.Began, v.Opened, v.Unread = began, before != Open && s.Breaker == Open, f.Unread
	v.setBackoff(p, s.Failures, f.Class, seed)
	// PID 1's start limit counts failures of all classes, and would give up before one class has
	// enough.
	v.Longer = v.Breaker == Open || wait > backoff || s.full(p, f.At)
	return v
}

// setBackoff sets what the backoff is after so many failures in a row, the last of a class.
func (v *Verdict) setBackoff(p Policy, failures int, c Class, seed string) {
	plain := p.ofClass(p.Backoff(failures-1), c)
	v.Backoff, v.Least, v.Most = p.backoff(failures, c, seed), scale(plain, 1-p.jitter()), scale(plain, 1+p.jitter())
}

// Learnt records the class of a run's failure, which its log may show later. waits means that no
// run has begun since the newest failure: then a class that waits longer delays the next. The
// breaker opens if the class has enough failures now.
func (s *State) Learnt(p Policy, run string, c Class, at time.Time, seed string, waits bool) Verdict {
	at = plain(at)
	i := s.find(run)
	if i < 0 || i == len(s.Recent)-1 {
		s.Cause = c
	}
	if i < 0 {
		return s.verdict(p, at)
	}
	f, newest := &s.Recent[i], i == len(s.Recent)-1
	was := *f
	f.Class, f.Unread = c, false
	before := s.BreakerNow()
	if before == Open && newest && s.Tripped == was.Class {
		s.Tripped = c
	}
	if before != Closed {
		return s.verdict(p, at)
	}
	if waits {
		s.putOff(p, was, newest, seed)
	}
	if s.Count(p, c, at) >= p.BreakerFailures && p.BreakerFailures > 0 && was.Unread {
		s.Breaker, s.Tripped = Open, c
		s.open(input{p, at, seed})
	}
	v := s.verdict(p, at)
	v.Longer, v.Opened = v.Breaker == Open, v.Breaker == Open
	if waits && newest {
		v.setBackoff(p, s.Failures, c, seed)
	}
	return v
}

// Withdraw takes back a run that was counted before it was known that it does not count, and
// reports whether the next start may be made at once. It changes nothing once the breaker is open.
func (s *State) Withdraw(run string) bool {
	if s.BreakerNow() == Open {
		return false
	}
	if i := s.find(run); i >= 0 && run != "" {
		s.Recent = slices.Delete(s.Recent, i, i+1)
		s.Failures, s.Total = max(s.Failures-1, 0), max(s.Total-1, 0)
		if len(s.Recent) == 0 {
			s.Recent = nil // as decoded from JSON
		}
	}
	s.Next = time.Time{}
	return true
}

// putOff sets the next start by the class of the newest failure, now that the class of a failure is
// known. It is not due before the last log is read that decides whether the breaker opens.
func (s *State) putOff(p Policy, was Failed, newest bool, seed string) {
	last := s.Recent[len(s.Recent)-1]
	before := last.Class
	if newest {
		before = was.Class
	}
	backoff := p.backoff(s.Failures, last.Class, seed)
	held := was.Unread && s.full(p, last.At) &&
		s.Next.Equal(last.At.Add(max(unreadWait, p.backoff(s.Failures, before, seed))))
	switch due := last.At.Add(backoff); {
	case held && s.unread():
		s.Next = last.At.Add(max(unreadWait, backoff))
	case held, last.Class.slow() && !before.slow() && due.After(s.Next):
		s.Next = due
	}
}

// unread reports whether the log of any counted run is not read yet.
func (s *State) unread() bool {
	return slices.ContainsFunc(s.Recent, func(f Failed) bool { return f.Unread })
}

// find is the index of a run's failure in Recent, or -1.
func (s *State) find(run string) int {
	for i := len(s.Recent) - 1; i >= 0; i-- {
		if f := s.Recent[i]; !f.Unseen && f.Run == run {
			return i
		}
	}
	return -1
}

// Restarted records n more failed runs that were not observed, by PID 1's counter. They count for
// the total, the backoff and the breaker, but do not open it by themselves: PID 1 counted them too,
// and did not give up. When they ended is not known, so they are no storm.
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

// Gave records that PID 1 gave up: its start limit was hit. The breaker opens; the failures
// themselves were recorded before.
func (s *State) Gave(p Policy, at time.Time, seed string) Verdict {
	at = plain(at)
	before := s.BreakerNow()
	_ = s.move(GaveUp, input{p, at, seed}) // no row refuses it
	v := s.verdict(p, at)
	v.Longer, v.Opened = true, before != Open
	return v
}

// Started records that a run starts now, or returns a *Refused: the breaker is open, or its trial
// is already running. A start after an open breaker's timeout is the trial, and makes the breaker
// half-open.
func (s *State) Started(p Policy, at time.Time) error {
	return s.move(Start, input{policy: p, at: plain(at)})
}

// Stopped records that the run was stopped on purpose, or ended without a failure. A trial that
// ends so has no result.
func (s *State) Stopped(p Policy, at time.Time) { _ = s.move(Stop, input{policy: p, at: plain(at)}) }

// Stable records that the run has been ready, without a break, from since until at. After
// StableAfter the breaker closes and a storm is over; after ResetAfter all failures are reset.
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

// NextStable is when Stable would next change anything for a run that is ready since then; zero for
// never.
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

// steadies reports whether a run that is ready for StableAfter changes anything.
func (s *State) steadies() bool { return s.BreakerNow() != Closed || s.Storm }

// counts reports whether there is anything to reset after ResetAfter.
func (s *State) counts() bool { return s.Failures > 0 || len(s.Recent) > 0 }

// verdict returns the state as a Verdict.
func (s *State) verdict(p Policy, at time.Time) Verdict {
	v := Verdict{Breaker: s.BreakerNow(), Next: s.Next, Storm: s.Storm, Cause: s.Cause, Failures: s.Failures,
		Total: s.Total}
	if v.Next.IsZero() {
		v.Next = at
	}
	v.Delay = max(v.Next.Sub(at), 0)
	if v.Breaker == Open {
		v.Until = s.Until
	}
	v.Counted = s.Count(p, v.Cause, at)
	switch {
	case v.Breaker == Open && s.Tripped != "":
		v.Cause = s.Tripped
		v.Counted = s.Count(p, v.Cause, at)
	case s.Storm:
		v.Cause, v.Counted = s.mostly(), len(s.stormy(p, at))
	}
	if s.Storm || v.Breaker == Open {
		v.Advice = v.Cause.Advice()
	}
	return v
}

// trim drops the failures that no longer count.
func (s *State) trim(p Policy, at time.Time) {
	if p.BreakerWindow > 0 {
		window := max(p.BreakerWindow, p.StormWindow)
		s.Recent = slices.DeleteFunc(s.Recent, func(f Failed) bool { return at.Sub(f.At) >= window })
	}
	// Keep the newest for a storm, and of each class as many as open the breaker.
	most := max(p.BreakerFailures, p.StormRestarts+1, 1)
	of, keep := make(map[Class]int), len(s.Recent)
	for i, f := range slices.Backward(s.Recent) {
		of[f.Class.counted()]++
		if len(s.Recent)-i <= most || !f.Unseen && of[f.Class.counted()] <= p.BreakerFailures {
			keep--
			s.Recent[keep] = f
		}
	}
	s.Recent = slices.Clone(s.Recent[keep:])
	if len(s.Recent) == 0 {
		s.Recent = nil // as decoded from JSON
	}
}

// plain is a time that JSON preserves: in UTC, without the monotonic clock reading.
func plain(t time.Time) time.Time { return t.Round(0).UTC() }
