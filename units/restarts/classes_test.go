package restarts

import (
	"testing"
	"time"
)

// TestEachClassHasItsOwnCount: failures of different classes open no breaker together, and the one
// that opens it is named.
func TestEachClassHasItsOwnCount(t *testing.T) {
	for _, c := range []struct {
		name    string
		limit   int
		classes []Class
		want    Breaker
		by      Class
	}{
		{"two_of_cuda_and_two_others_of_four", 4, []Class{CUDA, CUDA, Crash, Crash}, Closed, ""},
		{"one_by_one", 3, []Class{CUDA, Crash, CUDA, Crash, OOM, Load}, Closed, ""},
		{"an_end_before_and_after_it_was_ready", 4, []Class{Launch, Crash, Launch, Crash}, Open, Crash},
		{"cuda_among_others", 3, []Class{Crash, CUDA, CUDA, OOM, CUDA}, Open, CUDA},
		{"the_others_among_cuda", 3, []Class{Crash, CUDA, Crash, CUDA, Crash}, Open, Crash},
		{"a_long_row_of_two", 4, []Class{Crash, OOM, Load, Memory, Crash, OOM, Load, Memory, Crash, OOM, Load, Memory, Crash}, Open, Crash},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s State
			var v Verdict
			for i, class := range c.classes {
				if v.Breaker == Open {
					t.Fatalf("open after %d failures", i)
				}
				v = s.Failed(usual(func(p *Policy) {
					p.BreakerFailures, p.StormRestarts = c.limit, 0
				}), class, noon.Add(time.Duration(i)*time.Second), "u")
			}
			if v.Breaker != c.want || s.Tripped != c.by || c.by != "" &&
				(v.Cause != c.by || v.Counted != c.limit || v.Advice != c.by.Advice()) {
				t.Errorf("%+v of %+v", v, s)
			}
		})
	}
}

// TestPID1sLimitKnowsNoClass: if PID 1 would refuse the next start and no class has enough
// failures, the manager makes the start.
func TestPID1sLimitKnowsNoClass(t *testing.T) {
	var s State
	for i, class := range []Class{Crash, OOM, Load, Memory} {
		v := s.Failed(usual(func(p *Policy) { p.BreakerFailures = 4 }), class, noon, "u")
		if v.Longer != (i == 3) || v.Breaker != Closed {
			t.Errorf("failure %d: %+v", i+1, v)
		}
	}
}

// TestUnreadRunOpensNothing: a run whose log is unread may be of another class than PID 1 says. It
// opens the breaker when its class is known, and the next start waits for that.
func TestUnreadRunOpensNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		class Class
		want  Breaker
		next  time.Duration
	}{
		{"it_is_what_pid_1_said", Crash, Open, 5 * time.Minute},
		{"it_is_another", OOM, Closed, 4 * time.Second},
		{"it_is_one_that_waits_longer", CUDA, Closed, 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s State
			p := usual(func(p *Policy) { p.BreakerFailures, p.Jitter = 3, 0 })
			s.Failed(p, Crash, noon, "u")
			s.Failed(p, Crash, noon, "u")
			v := s.FailedRun(p, Failed{At: noon, Class: Crash, Run: "c", Unread: true}, "u")
			if v.Breaker != Closed || v.Opened || !v.Longer || v.Delay != unreadWait {
				t.Fatalf("before: %+v", v)
			}
			v = s.Learnt(p, "c", c.class, noon.Add(time.Second), "u", true)
			if v.Breaker != c.want || v.Opened != (c.want == Open) || s.Recent[2].Class != c.class {
				t.Errorf("after: %+v of %+v", v, s)
			}
			if at := noon.Add(c.next); c.want == Closed && !s.Next.Equal(at) || c.want == Open && s.Tripped != Crash {
				t.Errorf("next %v, tripped by %s", s.Next.Sub(noon), s.Tripped)
			}
			if again := s.Learnt(p, "c", c.class, noon.Add(2*time.Second), "u", true); again.Opened || s.Total != 3 {
				t.Errorf("learnt twice: %+v", again)
			}
		})
	}
}

// TestLogsAreReadInAnyOrder: the next start waits for the last log that decides whether the breaker
// opens, also where that of the newest run is read first.
func TestLogsAreReadInAnyOrder(t *testing.T) {
	for _, c := range []struct {
		name  string
		class Class // of the run whose log is read last
		want  Breaker
		next  time.Duration
	}{
		{"it_opens_the_breaker", CUDA, Open, 5 * time.Minute},
		{"it_does_not", Crash, Closed, 8 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s State
			p := usual(func(p *Policy) { p.BreakerFailures, p.Jitter = 3, 0 })
			s.Failed(p, CUDA, noon, "u")
			for _, run := range []string{"b", "c"} {
				s.FailedRun(p, Failed{At: noon, Class: Crash, Run: run, Unread: true}, "u")
			}
			v := s.Learnt(p, "c", CUDA, noon.Add(time.Second), "u", true)
			if v.Breaker != Closed || v.Next != noon.Add(unreadWait) {
				t.Fatalf("before: %+v", v)
			}
			v = s.Learnt(p, "b", c.class, noon.Add(2*time.Second), "u", true)
			if v.Breaker != c.want || c.want == Closed && v.Next != noon.Add(c.next) {
				t.Errorf("after: %+v", v)
			}
		})
	}
}

// TestClassFactorHoldsForTheWholeRow: each CUDA error waits longer, also those that only the log
// shows.
func TestClassFactorHoldsForTheWholeRow(t *testing.T) {
	var s State
	p := usual(noBreaker)
	at := noon
	for n, want := range []time.Duration{2, 4, 8, 16, 32} {
		s.FailedRun(p, Failed{At: at, Class: Crash, Run: string(rune('a' + n)), Unread: true}, "u")
		v := s.Learnt(p, string(rune('a'+n)), CUDA, at.Add(300*time.Millisecond), "u", true)
		if got := s.Next.Sub(at); got != want*time.Second || !v.TooEarly(want*time.Second/2) ||
			v.TooEarly(want*time.Second) {
			t.Errorf("failure %d waits %v, want %d s: %+v", n+1, got, want, v)
		}
		at = s.Next.Add(time.Second)
		if err := s.Started(p, at); err != nil {
			t.Fatal(err)
		}
	}
}

// TestLearntOfAFormerRun: a log that is read after the next run has failed too changes the count,
// and not the wait.
func TestLearntOfAFormerRun(t *testing.T) {
	var s State
	p := usual()
	s.FailedRun(p, Failed{At: noon, Class: Crash, Run: "a", Unread: true}, "u")
	s.FailedRun(p, Failed{At: noon.Add(time.Second), Class: Crash, Run: "b", Unread: true}, "u")
	next := s.Next
	if v := s.Learnt(p, "a", CUDA, noon.Add(2*time.Second), "u", true); v.Longer || s.Next != next ||
		s.Recent[0].Class != CUDA || s.Cause != Crash {
		t.Errorf("%+v of %+v", v, s)
	}
}
