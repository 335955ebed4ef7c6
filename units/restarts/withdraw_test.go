package restarts

import (
	"reflect"
	"testing"
)

// TestWithdraw: a run that does not count after all leaves the state as it was before, whichever
// run it was. An open breaker stays open.
func TestWithdraw(t *testing.T) {
	p := usual(func(p *Policy) { p.BreakerFailures, p.Jitter = 3, 0 })
	failed := func(runs ...string) (s State) {
		for _, run := range runs {
			s.FailedRun(p, Failed{At: noon, Class: Crash, Run: run, Unread: true}, "u")
		}
		return s
	}
	for _, c := range []struct {
		name     string
		state    State
		run      string
		want     bool
		failures int
	}{
		{"the_only_one", failed("a"), "a", true, 0},
		{"the_newest", failed("a", "b"), "b", true, 1},
		{"one_that_would_have_opened_the_breaker", failed("a", "b", "c"), "c", true, 2},
		{"a_former_one", failed("a", "b"), "a", true, 1},
		{"not_counted", failed("a"), "x", true, 1},
		{"no_run", failed("a"), "", true, 1},
		{"open", opened(t, p, 1), "a", false, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.state
			if got := s.Withdraw(c.run); got != c.want || s.Failures != c.failures {
				t.Errorf("Withdraw = %t, %d failures; want %t, %d", got, s.Failures, c.want, c.failures)
			}
			if c.want && !s.Next.IsZero() {
				t.Errorf("the next start waits until %s", s.Next)
			}
		})
	}
	s := failed("a")
	s.Withdraw("a")
	if s.Cause = ""; !reflect.DeepEqual(s, State{Breaker: Closed}) {
		t.Errorf("left behind: %+v", s)
	}
}
