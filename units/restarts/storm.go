package restarts

import "time"

// storm counts the failures of the sliding window that ends now. It reports whether a storm began,
// and how long the next start must wait so that no window has more than StormRestarts of them. A
// storm is over when the window has at most half: restarts limited to exactly that number would
// otherwise begin a new storm each time.
func (s *State) storm(p Policy, at time.Time) (began bool, wait time.Duration) {
	if p.StormRestarts <= 0 || p.StormWindow <= 0 {
		s.Storm = false
		return false, 0
	}
	in := s.stormy(p, at)
	switch {
	case len(in) > p.StormRestarts:
		began, s.Storm = !s.Storm, true
	case len(in) <= p.StormRestarts/2:
		s.Storm = false
	}
	if !s.Storm || len(in) < p.StormRestarts {
		return began, 0
	}
	// The next start is allowed when the last StormRestarts failures are no longer all in the
	// window.
	oldest := in[len(in)-p.StormRestarts]
	return began, min(max(oldest.At.Add(p.StormWindow).Sub(at), 0), p.StormWindow)
}

// stormy are the failures in the storm window that ends at a time.
func (s *State) stormy(p Policy, at time.Time) (in []Failed) {
	for _, f := range s.Recent {
		if !f.Unseen && at.Sub(f.At) < p.StormWindow {
			in = append(in, f)
		}
	}
	return in
}

// mostly is the class of most kept failures; the later one of equals.
func (s *State) mostly() Class {
	count := map[Class]int{}
	for _, f := range s.Recent {
		if !f.Unseen {
			count[f.Class]++
		}
	}
	best := s.Cause
	for i := len(s.Recent) - 1; i >= 0; i-- {
		if f := s.Recent[i]; !f.Unseen && count[f.Class] > count[best] {
			best = f.Class
		}
	}
	return best
}
