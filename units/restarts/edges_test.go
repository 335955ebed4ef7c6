package restarts

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// opened is a replica whose breaker has opened that many times in a row, the last time at noon.
func opened(t *testing.T, p Policy, times int) State {
	t.Helper()
	var s State
	at := noon.Add(-time.Duration(times) * 24 * time.Hour)
	for range times {
		if at = at.Add(24 * time.Hour); s.BreakerNow() == Open {
			if err := s.Started(p, at); err != nil {
				t.Fatal(err)
			}
		}
		for s.BreakerNow() != Open {
			s.Failed(p, Crash, at, "a")
		}
	}
	return s
}

// TestOpenedIsSaidOnce: only the verdict of the failure that opens the breaker has Opened, and only
// an open breaker has a time.
func TestOpenedIsSaidOnce(t *testing.T) {
	var s State
	p := usual()
	for n := 1; n <= p.BreakerFailures+1; n++ {
		v := s.Failed(p, Crash, noon, "a")
		if v.Opened != (n == p.BreakerFailures) || v.Until.IsZero() != (n < p.BreakerFailures) {
			t.Errorf("failure %d: opened %t, until %s", n, v.Opened, v.Until)
		}
	}
}

// TestStartTakesItsTimeAway: the time of the next start is cleared by the start.
func TestStartTakesItsTimeAway(t *testing.T) {
	var s State
	p := usual()
	s.Failed(p, Crash, noon, "a")
	if err := s.Started(p, noon.Add(time.Minute)); err != nil || !s.Next.IsZero() {
		t.Errorf("next is %s, %v", s.Next, err)
	}
}

// TestTrialHasNoTime: a start during a trial is refused without a time; one before an open
// breaker's timeout with its time.
func TestTrialHasNoTime(t *testing.T) {
	p := usual()
	s := opened(t, p, 1)
	var refused *Refused
	if err := s.Started(p, noon); !errors.As(err, &refused) || !refused.Until.Equal(noon.Add(p.BreakerTimeout)) {
		t.Errorf("open: %v, %+v", err, refused)
	}
	if err := s.Started(p, noon.Add(p.BreakerTimeout)); err != nil {
		t.Fatal(err)
	}
	if err := s.Started(p, noon.Add(p.BreakerTimeout)); !errors.As(err, &refused) || !refused.Until.IsZero() {
		t.Errorf("half-open: %v, %+v", err, refused)
	}
}

// TestBreakerCountsItsOwnWindow: failures that only the longer window of storms remembers open
// nothing.
func TestBreakerCountsItsOwnWindow(t *testing.T) {
	p := usual(func(p *Policy) { p.BreakerFailures, p.BreakerWindow, p.StormWindow = 2, time.Minute, time.Hour })
	for _, c := range []struct {
		after time.Duration
		want  Breaker
	}{{time.Minute - 1, Open}, {time.Minute, Closed}} {
		var s State
		s.Failed(p, Crash, noon, "a")
		if v := s.Failed(p, Crash, noon.Add(c.after), "a"); v.Breaker != c.want {
			t.Errorf("a second failure after %s: %s, want %s", c.after, v.Breaker, c.want)
		}
	}
}

// TestWindowHoldsTheLongestDelays: PID 1's start limit counts over what the slowest class with its
// jitter takes.
func TestWindowHoldsTheLongestDelays(t *testing.T) {
	r := pool.Restart{Initial: 10 * time.Second, Factor: 1, Max: 10 * time.Second, Jitter: 0.5, ClassFactor: 2,
		BreakerFailures: 3}
	if got, want := Window(r, time.Minute), 3*(30*time.Second+time.Minute)+time.Second; got != want {
		t.Errorf("Window = %s, want %s", got, want)
	}
}

// TestLearntOfAnUnseenRun: a run's log does not change the class of a run that was not observed.
func TestLearntOfAnUnseenRun(t *testing.T) {
	var s State
	p := usual()
	s.Restarted(p, 2, noon)
	if v := s.Learnt(p, "", CUDA, noon, "a", true); v.Longer || s.Recent[1].Class != Unknown || s.Cause != CUDA {
		t.Errorf("%+v, of %+v", v, s)
	}
	var none State
	if v := none.Learnt(p, "", CUDA, noon, "a", true); v.Longer || v.Next != noon || v.Delay != 0 {
		t.Errorf("of none: %+v", v)
	}
}

// TestRemembersNoMoreThanItCounts: what is kept over restarts of the manager does not grow with the
// years.
func TestRemembersNoMoreThanItCounts(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		want   int
	}{
		{"many_at_once", usual(), 11},
		{"none_counted", usual(noBreaker, func(p *Policy) { p.StormRestarts = 0 }), 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s State
			s.Restarted(c.policy, 1000, noon)
			for range 1000 {
				s.Failed(c.policy, Crash, noon, "a")
			}
			if len(s.Recent) != c.want || s.Total != 2000 {
				t.Errorf("%d failures are remembered of %d, want %d", len(s.Recent), s.Total, c.want)
			}
		})
	}
	t.Run("out_of_both_windows", func(t *testing.T) {
		var s State
		p := usual()
		s.Failed(p, OOM, noon, "a")
		s.Failed(p, Crash, noon.Add(p.BreakerWindow), "a")
		if len(s.Recent) != 1 || s.Recent[0].Class != Crash {
			t.Errorf("%+v", s.Recent)
		}
	})
}

// TestStormIsOfMost: a storm's cause is the class of most failures in it, the later one of equals;
// runs that were not observed do not count.
func TestStormIsOfMost(t *testing.T) {
	for _, c := range []struct {
		name    string
		classes []Class
		want    Class
	}{
		{"most", []Class{OOM, OOM, Crash}, OOM},
		{"as_many", []Class{OOM, OOM, Crash, Crash}, Crash},
		{"as_many_and_another_last", []Class{OOM, OOM, Crash, Crash, CUDA}, Crash},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := State{Storm: true, Cause: c.classes[len(c.classes)-1]}
			for range 3 {
				s.Recent = append(s.Recent, Failed{At: noon, Unseen: true})
			}
			for _, class := range c.classes {
				s.Recent = append(s.Recent, Failed{At: noon, Class: class})
			}
			if v := s.verdict(usual(), noon); v.Cause != c.want {
				t.Errorf("cause %s, want %s", v.Cause, c.want)
			}
		})
	}
}

// TestStormEnds: a storm ends when the window has half the failures that begin one, and at once if
// none is counted.
func TestStormEnds(t *testing.T) {
	p := usual(noBreaker, func(p *Policy) { p.StormRestarts = 4 })
	for _, c := range []struct {
		name   string
		recent int
		policy Policy
		want   bool
	}{
		{"more_than_half", 2, p, true},
		{"half", 1, p, false},
		{"no_window", 9, usual(noBreaker, func(p *Policy) { p.StormWindow = 0 }), false},
		{"no_limit", 9, usual(noBreaker, func(p *Policy) { p.StormRestarts = 0 }), false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := State{Storm: true}
			for range c.recent {
				s.Recent = append(s.Recent, Failed{At: noon, Class: Crash})
			}
			if v := s.Failed(c.policy, Crash, noon, "a"); v.Storm != c.want || v.Began {
				t.Errorf("%+v, want a storm: %t", v, c.want)
			}
		})
	}
}

// TestNoNumberIsNoDelay: a factor that is NaN (a TOML file can have one) changes nothing.
func TestNoNumberIsNoDelay(t *testing.T) {
	p := usual(func(p *Policy) { p.Factor, p.Jitter, p.ClassFactor = math.NaN(), math.NaN(), math.NaN() })
	var s State
	for range 3 {
		if v := s.Failed(p, CUDA, noon, "a"); v.Backoff != p.Initial {
			t.Errorf("backoff %s, want %s", v.Backoff, p.Initial)
		}
	}
	if got := scale(time.Second, math.NaN()); got != 0 {
		t.Errorf("a second by no number is %s", got)
	}
}

// TestSpreadTellsNeighboursApart: replicas differ in their last character, and failures by one;
// both come apart over the whole width.
func TestSpreadTellsNeighboursApart(t *testing.T) {
	const many = 1000
	for _, c := range []struct {
		name string
		of   func(i int) float64
	}{
		{"neighbours", func(i int) float64 { return spread(fmt.Sprintf("pool-engine@p%03d.r0.service", i), 1) }},
		{"failures", func(i int) float64 { return spread("pool-engine@a.r0.service", i) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all []float64
			near := 0
			for i := range many {
				all = append(all, c.of(i))
				if i > 0 && math.Abs(all[i]-all[i-1]) < 0.02 {
					near++
				}
			}
			// Of two random places in a width of 2, one in fifty is nearer than 0.02; and no
			// fiftieth of the width stays empty of a thousand.
			if near > many/25 {
				t.Errorf("%d of %d are next to the one before", near, many)
			}
			slices.Sort(all)
			last := -1.0
			for _, x := range append(all, 1) {
				if x-last > 0.04 {
					t.Errorf("nothing between %.3f and %.3f", last, x)
				}
				last = x
			}
		})
	}
}
