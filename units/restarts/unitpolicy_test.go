package restarts

import (
	"fmt"
	"testing"
	"time"
)

// TestUnitPolicy: a unit that is started after failures goes on where they ended.
func TestUnitPolicy(t *testing.T) {
	for _, c := range []struct {
		name    string
		classes []Class
		policy  func(*Policy)
		want    UnitPolicy
	}{
		{"none_failed", nil, noBreaker, UnitPolicy{}},
		{"one", []Class{Crash}, func(*Policy) {}, UnitPolicy{2 * time.Second, time.Minute, 4}},
		{"three", []Class{Crash, Crash, Crash}, func(*Policy) {}, UnitPolicy{8 * time.Second, time.Minute, 2}},
		{"of_cuda", []Class{CUDA, CUDA}, func(*Policy) {}, UnitPolicy{8 * time.Second, 2 * time.Minute, 3}},
		{"the_last_of_cuda", []Class{Crash, CUDA}, func(*Policy) {}, UnitPolicy{8 * time.Second, 2 * time.Minute, 3}},
		{"cuda_before", []Class{CUDA, Crash}, func(*Policy) {}, UnitPolicy{4 * time.Second, time.Minute, 3}},
		{"past_the_longest", []Class{Crash, OOM, CUDA, Crash, OOM, CUDA, CUDA}, func(*Policy) {},
			UnitPolicy{2 * time.Minute, 2 * time.Minute, 1}},
		{"of_several_classes_that_open_nothing", []Class{Crash, CUDA, OOM, Load}, func(p *Policy) { p.BreakerFailures = 3 },
			UnitPolicy{16 * time.Second, time.Minute, 1}},
		{"a_trial", []Class{Crash, Crash}, func(p *Policy) { p.BreakerFailures = 2 },
			UnitPolicy{4 * time.Second, time.Minute, 1}},
		{"no_breaker", []Class{Crash}, noBreaker, UnitPolicy{2 * time.Second, time.Minute, 0}},
		{"no_growth", []Class{Crash, Crash}, func(p *Policy) { p.Factor, p.Max = 1, time.Second },
			UnitPolicy{time.Second, time.Second, 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s State
			p := usual(c.policy)
			for _, class := range c.classes {
				s.Failed(p, class, noon, "u")
			}
			if s.Breaker == Open {
				if err := s.Started(p, s.Until); err != nil {
					t.Fatal(err)
				}
			}
			if got := s.UnitPolicy(p, noon, "u"); got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
		})
	}
}

// TestUnitPolicyForgets: what is out of the window, or before a reset, limits no start.
func TestUnitPolicyForgets(t *testing.T) {
	var s State
	p := usual()
	for range 3 {
		s.Failed(p, Crash, noon, "u")
	}
	if got := s.UnitPolicy(p, noon.Add(p.BreakerWindow), "u"); got.Starts != 5 || got.Delay != 8*time.Second {
		t.Errorf("out of the window: %+v", got)
	}
	s.Reset()
	if got := s.UnitPolicy(p, noon, "u"); got != (UnitPolicy{}) {
		t.Errorf("after a reset: %+v", got)
	}
}

// TestUnitsOpenTheBreakerTogether: wherever the manager starts a new unit in a row of failures, PID
// 1 makes exactly the starts that the breaker still allows, and its delays are the policy's.
func TestUnitsOpenTheBreakerTogether(t *testing.T) {
	for replaced := range 1 << 4 { // bit n: the unit is new after n+1 failures
		t.Run(fmt.Sprintf("replaced_%04b", replaced), func(t *testing.T) {
			var s State
			p, at := usual(func(p *Policy) { p.Jitter, p.StormRestarts = 0.2, 0 }), noon
			starts, unit, v := p.BreakerFailures, UnitPolicy{}, Verdict{}
			for n := range p.BreakerFailures {
				if starts == 0 {
					t.Fatalf("PID 1 gives up after %d failures", n)
				}
				if n > 0 && replaced>>(n-1)&1 == 1 {
					unit = s.UnitPolicy(p, at, "u")
					starts = unit.Starts
				}
				starts--
				v = s.Failed(p, CUDA, at, "u")
				if n > 0 && replaced>>(n-1)&1 == 1 && (v.Backoff != unit.Delay || n < 4 && v.TooEarly(unit.Delay) ||
					v.TooLate(unit.Delay)) {
					t.Errorf("failure %d waits %v, PID 1 %v", n+1, v.Backoff, unit.Delay)
				}
				at = v.Next
			}
			if v.Breaker != Open || starts != 0 {
				t.Errorf("breaker %s, PID 1 would make %d more starts", v.Breaker, starts)
			}
		})
	}
}

// TestSuits: PID 1 makes the next start unless its delay is clearly another than the policy's.
func TestSuits(t *testing.T) {
	v := Verdict{Least: 8 * time.Second, Most: 12 * time.Second}
	for _, c := range []struct {
		name        string
		v           Verdict
		delay       time.Duration
		early, late bool
	}{
		{"as_the_policy", v, 10 * time.Second, false, false},
		{"at_the_edges_of_the_jitter", v, 8 * time.Second, false, false},
		{"a_step_below", v, 6500 * time.Millisecond, false, false},
		{"far_below", v, 6 * time.Second, true, false},
		{"a_step_above", v, 15 * time.Second, false, false},
		{"far_above", v, 16 * time.Second, false, true},
		{"far_above_with_an_unread_log", Verdict{Least: v.Least, Most: v.Most, Unread: true}, time.Hour, false, false},
		{"not_known", v, 0, false, false},
		{"never", Verdict{Least: v.Least, Most: v.Most, Longer: true}, time.Hour, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.v.TooEarly(c.delay) != c.early || c.v.TooLate(c.delay) != c.late {
				t.Errorf("early is %t, late %t", !c.early, !c.late)
			}
		})
	}
}
