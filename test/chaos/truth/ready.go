package truth

import (
	"regexp"
	"slices"
	"time"
)

// since remembers since when a condition of something has held without a pause.
type since map[string]time.Duration

// holds notes whether the condition holds now, and returns for how long it has.
func (s since) holds(key string, now time.Duration, is bool) time.Duration {
	if !is {
		delete(s, key)
		return 0
	}
	if _, ok := s[key]; !ok {
		s[key] = now
	}
	return now - s[key]
}

// readiness holds that what the API calls ready answers.
type readiness struct {
	late   time.Duration
	silent since // by unit
	said   map[string]bool
}

func newReadiness(late time.Duration) *readiness {
	return &readiness{late: late, silent: make(since), said: make(map[string]bool)}
}

func (s *readiness) see(r Record) (found []Violation) {
	if r.Look == nil {
		return nil
	}
	if r.Look.API != "" { // nothing is claimed
		clear(s.silent)
		return nil
	}
	asked := make(map[string]bool)
	for _, a := range r.Look.Answers {
		asked[a.Unit] = true
		lasted := s.silent.holds(a.Unit, r.At, a.Error != "")
		if a.Error == "" {
			delete(s.said, a.Unit)
		}
		if lasted > s.late && !s.said[a.Unit] {
			s.said[a.Unit] = true
			found = append(found, wrong(RuleReady, PoolOf(a.Unit), "%s is called ready, and has not answered for %s: "+
				"%s", a.Unit, lasted.Round(time.Millisecond), a.Error))
		}
	}
	for unit := range s.silent {
		if !asked[unit] { // it is not called ready any longer
			delete(s.silent, unit)
		}
	}
	return found
}

// Error codes begin last_error.
var code = regexp.MustCompile(`^[A-Z][A-Z_]+: .`)

// onItsWay are states that are left without anyone's help, or that an operator asked for: their
// reason is the replica's.
var onItsWay = []string{"staging", "preparing", "starting", "probing", "draining", "stopping", "stopped"}

// reasons holds that a pool that is not ready names its reason.
type reasons struct {
	late    time.Duration
	without since // by pool
	said    map[string]bool
}

func newReasons(late time.Duration) *reasons {
	return &reasons{late: late, without: make(since), said: make(map[string]bool)}
}

func (s *reasons) see(r Record) (found []Violation) {
	if r.Look == nil || r.Look.API != "" {
		return nil
	}
	for _, p := range r.Look.Pools {
		lasted := s.without.holds(p.ID, r.At, !reasoned(p))
		if lasted == 0 {
			delete(s.said, p.ID)
		}
		if lasted > s.late && !s.said[p.ID] {
			s.said[p.ID] = true
			found = append(found, wrong(RuleReason, p.ID, "%s and not ready for %s, last_error %q, hint %q, replicas "+
				"%+v", p.State, lasted.Round(time.Millisecond), p.LastError, p.Hint, p.Replicas))
		}
	}
	return found
}

// reasoned reports whether a pool is ready, or names why not.
func reasoned(p Pool) bool {
	if p.Ready || code.MatchString(p.LastError) && p.Hint != "" {
		return true
	}
	return slices.Contains(onItsWay, p.State) &&
		!slices.ContainsFunc(p.Replicas, func(r Replica) bool { return !r.Ready && r.Reason == "" })
}
