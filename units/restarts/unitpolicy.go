package restarts

import "time"

// tolerance is how far PID 1's delay may be from what the policy allows, as a part of it: PID 1
// grows in whole steps, and a start by the manager has no use where they differ a little.
const tolerance = 1.25

// UnitPolicy is what PID 1 needs to know of a policy for a unit that is started now: it counts the
// failures of this unit only, and would begin again with the first delay and a whole start limit.
// The zero value is the policy from its beginning.
type UnitPolicy struct {
	Delay   time.Duration // before its first restart
	Longest time.Duration // to which the delay grows
	Starts  int           // as many as the breaker still allows, this one included; 0: as the policy says
}

// UnitPolicy is what PID 1 needs for a unit that is started now. Its delay is the one that follows
// on another failure of the last class. A trial is started once.
func (s *State) UnitPolicy(p Policy, at time.Time, seed string) UnitPolicy {
	if s.Failures == 0 {
		return UnitPolicy{}
	}
	u := UnitPolicy{Delay: p.backoff(s.Failures+1, s.Cause, seed), Longest: p.ofClass(max(p.Max, 0), s.Cause)}
	switch {
	case s.BreakerNow() != Closed:
		u.Starts = 1
	case p.BreakerFailures > 0:
		u.Starts = max(p.BreakerFailures-s.counted(p, plain(at)), 1)
	}
	return u
}

// TooEarly reports whether a restart by PID 1 after its own delay would be before the next start is
// due. A delay of 0 is not known: PID 1 is not waiting.
func (v Verdict) TooEarly(delay time.Duration) bool {
	return v.Longer || delay > 0 && float64(delay)*tolerance < float64(v.Least)
}

// TooLate reports whether it would be clearly after that.
func (v Verdict) TooLate(delay time.Duration) bool {
	return !v.Longer && !v.Unread && float64(delay) > float64(v.Most)*tolerance
}
