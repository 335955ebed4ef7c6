package restarts

import (
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// usual is the policy of a pool without a [restart] table, without jitter.
func usual(changes ...func(*Policy)) Policy {
	p := Policy{Initial: time.Second, Factor: 2, Max: time.Minute, ClassFactor: 2, ResetAfter: 10 * time.Minute,
		StormRestarts: 10, StormWindow: time.Minute,
		BreakerFailures: 5, BreakerWindow: 30 * time.Minute, BreakerTimeout: 5 * time.Minute, BreakerMax: time.Hour,
		StableAfter: time.Minute}
	for _, c := range changes {
		c(&p)
	}
	return p
}

func noBreaker(p *Policy) { p.BreakerFailures = 0 }

func same(a, b State) bool { return reflect.DeepEqual(a, b) }

// TestUnseenIsNoStorm: a late manager learns of many runs at one moment, and that is not when they
// ended.
func TestUnseenIsNoStorm(t *testing.T) {
	var s State
	p := Policy{Initial: time.Second, Factor: 2, Max: time.Minute, StormRestarts: 3, StormWindow: time.Minute,
		BreakerFailures: 100}
	at := time.Unix(1000, 0)
	s.Restarted(p, 20, at)
	if v := s.Failed(p, Crash, at.Add(time.Second), "a"); v.Storm || v.Began {
		t.Errorf("%+v", v)
	}
}

func TestLearnt(t *testing.T) {
	var s State
	p := Policy{BreakerFailures: 1, BreakerTimeout: time.Minute}
	at := time.Unix(1000, 0)
	was := s.Failed(p, Crash, at, "a")
	v := s.Learnt(p, "", CUDA, at.Add(time.Second), "u", false)
	if v.Longer || v.Cause != CUDA || s.Recent[0].Class != CUDA || v.Advice != CUDA.Advice() || v.Next != was.Next ||
		v.Failures != 1 || s.Total != 1 {
		t.Errorf("%+v, of %+v", v, s)
	}
}

// TestLearntLater: a class that waits longer delays the next run, if it has not begun and neither a
// storm nor the breaker waits longer.
func TestLearntLater(t *testing.T) {
	for _, c := range []struct {
		name   string
		class  Class
		waits  bool
		policy func(*Policy)
		delay  time.Duration
		longer bool
	}{
		{"cuda", CUDA, true, noBreaker, 2 * time.Second, true},
		{"no_slow_class", OOM, true, noBreaker, time.Second, false},
		{"it_runs_again", CUDA, false, noBreaker, time.Second, false},
		{"an_open_breaker_waits_longer", CUDA, true, func(p *Policy) { p.BreakerFailures = 1 }, 5 * time.Minute, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var s State
			p := usual(c.policy)
			s.Failed(p, Crash, noon, "a")
			v := s.Learnt(p, "", c.class, noon, "a", c.waits)
			if v.Delay != c.delay || v.TooEarly(time.Second) != c.longer || v.Total != 1 ||
				s.Next != noon.Add(c.delay) {
				t.Errorf("%+v, of %+v", v, s)
			}
			again := s.Learnt(p, "", c.class, noon, "a", c.waits)
			if again.TooEarly(time.Second) != c.longer || again.Delay != c.delay {
				t.Errorf("learnt twice: %+v", again)
			}
		})
	}
}

// TestBackoff: initial × factor^n up to max, and CUDA and driver errors wait class_factor times as
// long, past max too.
func TestBackoff(t *testing.T) {
	for class, want := range map[Class][]time.Duration{
		Crash:   {1, 2, 4, 8, 16, 32, 60, 60},
		OOM:     {1, 2, 4, 8, 16, 32, 60, 60},
		CUDAOOM: {1, 2, 4, 8, 16, 32, 60, 60},
		CUDA:    {2, 4, 8, 16, 32, 64, 120, 120},
		Driver:  {2, 4, 8, 16, 32, 64, 120, 120},
	} {
		t.Run(string(class), func(t *testing.T) {
			var s State
			for n, seconds := range want {
				v := s.Failed(usual(noBreaker), class, noon.Add(time.Duration(n)*5*time.Minute), "u")
				if v.Delay != seconds*time.Second || v.Backoff != v.Delay || v.Failures != n+1 || v.Total != n+1 {
					t.Errorf("failure %d: %+v, want %v s", n+1, v, int(seconds))
				}
				if slow := class == CUDA || class == Driver; v.TooEarly(usual().Backoff(n)) != slow {
					t.Errorf("failure %d: PID 1 would be too early is %t", n+1, !slow)
				}
			}
		})
	}
}

// TestJitter: fifty replicas that fail together start at different times, by their names and the
// number of the failure.
func TestJitter(t *testing.T) {
	p := usual(func(p *Policy) { p.Initial, p.Jitter = 10*time.Second, 0.2 })
	buckets, seen := map[int]int{}, map[time.Duration]bool{}
	for n := range 50 {
		seed := fmt.Sprintf("pool-engine@p%02d.r0.service", n)
		var a, b State
		v := a.Failed(p, Crash, noon, seed)
		if again := b.Failed(p, Crash, noon, seed); again != v {
			t.Fatalf("%s waits %v and then %v", seed, v.Delay, again.Delay)
		}
		if v.Delay < 8*time.Second || v.Delay > 12*time.Second {
			t.Errorf("%s waits %v, want 10s ± 20%%", seed, v.Delay)
		}
		seen[v.Delay] = true
		buckets[int((v.Delay-8*time.Second)/(400*time.Millisecond))]++
		if second := a.Failed(p, Crash, noon, seed); math.Abs(float64(second.Delay)/2-float64(v.Delay)) < 1 {
			t.Errorf("%s has the same place at its second failure", seed)
		}
	}
	if len(seen) != 50 || len(buckets) < 9 {
		t.Errorf("50 delays have %d values in %d of 10 parts of the span", len(seen), len(buckets))
	}
	for part, n := range buckets {
		if n > 15 {
			t.Errorf("%d of 50 are in part %d", n, part)
		}
	}
}

// TestBreaker follows one replica from its first failure to an open breaker, through trials, and
// back.
func TestBreaker(t *testing.T) {
	p, s, at := usual(), State{}, noon
	for n := range 4 {
		if v := s.Failed(p, CUDAOOM, at, "u"); v.Breaker != Closed || v.Advice != "" {
			t.Fatalf("failure %d: %+v", n+1, v)
		}
		at = at.Add(time.Minute)
	}
	v := s.Failed(p, CUDAOOM, at, "u")
	if v.Breaker != Open || !v.Opened || v.Delay != 5*time.Minute || !v.Until.Equal(at.Add(5*time.Minute)) ||
		!v.Longer || !strings.Contains(v.Advice, "lower ctx") {
		t.Fatalf("the fifth failure: %+v", v)
	}
	if err := s.Started(p, v.Until.Add(-1)); err == nil {
		t.Fatal("a start before the time is over")
	}
	for _, want := range []time.Duration{10, 20, 40, 60, 60} {
		at = v.Until
		if err := s.Started(p, at); err != nil || s.BreakerNow() != HalfOpen {
			t.Fatalf("the trial: %v, %s", err, s.Breaker)
		}
		if err := s.Started(p, at.Add(time.Hour)); err == nil {
			t.Fatal("a second trial")
		}
		if v = s.Failed(p, Crash, at.Add(time.Second), "u"); !v.Opened || v.Delay != want*time.Minute {
			t.Fatalf("after the trial failed: %+v, want %d min", v, want)
		}
	}
	at = v.Until
	if err := s.Started(p, at); err != nil {
		t.Fatal(err)
	}
	if next := s.NextStable(p, at); !next.Equal(at.Add(time.Minute)) {
		t.Errorf("the breaker may close at %v", next)
	}
	if c := s.Stable(p, at, at.Add(time.Minute-1)); c != (Change{}) || s.BreakerNow() != HalfOpen {
		t.Errorf("too early: %+v, %s", c, s.Breaker)
	}
	if c := s.Stable(p, at, at.Add(time.Minute)); c != (Change{Closed: true}) || s.BreakerNow() != Closed {
		t.Errorf("after a minute: %+v, %s", c, s.Breaker)
	}
	if next := s.NextStable(p, at); !next.Equal(at.Add(10 * time.Minute)) {
		t.Errorf("failures may be forgotten at %v", next)
	}
	v = s.Failed(p, Crash, at.Add(2*time.Minute), "u")
	if v.Breaker != Closed || v.Delay != time.Minute {
		t.Errorf("the first failure of a closed breaker: %+v; the backoff goes on where it was", v)
	}
}

// TestForgotten: a run that was ready for reset_after resets the backoff, and the total stays.
func TestForgotten(t *testing.T) {
	p, s := usual(), State{}
	for range 4 {
		s.Failed(p, Crash, noon, "u")
	}
	if c := s.Stable(p, noon, noon.Add(10*time.Minute-1)); c != (Change{}) {
		t.Errorf("too early: %+v", c)
	}
	if c := s.Stable(p, noon, noon.Add(10*time.Minute)); c != (Change{Forgotten: true}) ||
		!s.NextStable(p, noon).IsZero() {
		t.Errorf("%+v, next %v", c, s.NextStable(p, noon))
	}
	if c := s.Stable(p, noon, noon.Add(time.Hour)); c != (Change{}) {
		t.Errorf("a second time: %+v", c)
	}
	if v := s.Failed(p, Crash, noon.Add(time.Hour), "u"); v.Delay != time.Second || v.Failures != 1 || v.Total != 5 {
		t.Errorf("%+v", v)
	}
}

// TestBreakerWindow: failures that lie far apart do not open it.
func TestBreakerWindow(t *testing.T) {
	p, s := usual(), State{}
	for n := range 20 {
		if v := s.Failed(p, Crash, noon.Add(time.Duration(n)*8*time.Minute), "u"); v.Breaker != Closed {
			t.Fatalf("failure %d: %+v", n+1, v)
		}
	}
}

// TestBreakerJitter: breakers that opened together make their trials at different times, and none
// early.
func TestBreakerJitter(t *testing.T) {
	p := usual(func(p *Policy) { p.Jitter, p.BreakerFailures = 0.1, 1 })
	seen := map[time.Duration]bool{}
	for n := range 50 {
		var s State
		v := s.Failed(p, Crash, noon, fmt.Sprint("u", n))
		if v.Delay < 5*time.Minute || v.Delay > 330*time.Second {
			t.Errorf("it stays open for %v", v.Delay)
		}
		seen[v.Delay.Round(time.Second)] = true
	}
	if len(seen) < 20 {
		t.Errorf("50 breakers have %d different seconds", len(seen))
	}
}

// TestGave: PID 1's start limit opens the breaker, and only once.
func TestGave(t *testing.T) {
	p, s := usual(), State{}
	s.Failed(p, Launch, noon, "u")
	v := s.Gave(p, noon.Add(time.Second), "u")
	if !v.Opened || v.Breaker != Open || v.Total != 1 || v.Cause != Launch || v.Delay != 5*time.Minute {
		t.Errorf("%+v", v)
	}
	if again := s.Gave(p, noon.Add(time.Minute), "u"); again.Opened || !again.Until.Equal(v.Until) {
		t.Errorf("a second time: %+v", again)
	}
}

// TestStopped: a trial that an operator stops has no result; the next start is a trial again, at
// once.
func TestStopped(t *testing.T) {
	p, s := usual(), State{}
	v := s.Gave(p, noon, "u")
	if err := s.Started(p, v.Until); err != nil {
		t.Fatal(err)
	}
	s.Stopped(p, v.Until.Add(time.Second))
	if s.BreakerNow() != Open || s.Opened != 1 {
		t.Errorf("%+v", s)
	}
	if err := s.Started(p, v.Until.Add(time.Second)); err != nil || s.BreakerNow() != HalfOpen {
		t.Errorf("%v, %s", err, s.Breaker)
	}
}

// TestReset: an operator closes the breaker, and all but the total is reset.
func TestReset(t *testing.T) {
	p := usual()
	for _, from := range states {
		s := State{Breaker: from, Until: noon, Opened: 3, Failures: 7, Total: 9, Next: noon, Storm: true, Cause: OOM,
			Recent: []Failed{{At: noon}}}
		s.Reset()
		if !same(s, State{Breaker: Closed, Total: 9}) {
			t.Errorf("%s: %+v", from, s)
		}
		if err := s.Started(p, noon.Add(-time.Hour)); err != nil {
			t.Error(err)
		}
	}
}

// TestUnseen: restarts by PID 1 that were not observed count for total, backoff and breaker, and
// are no storm.
func TestUnseen(t *testing.T) {
	p, s := usual(), State{}
	s.Restarted(p, 30, noon)
	s.Restarted(p, -1, noon)
	if s.Total != 30 || s.BreakerNow() != Closed || s.Storm {
		t.Errorf("%+v", s)
	}
	v := s.Failed(p, Crash, noon, "u")
	if v.Breaker != Open || v.Storm || v.Total != 31 || v.Backoff != time.Minute {
		t.Errorf("the next failure: %+v", v)
	}
}

// TestStorm: more than ten failures in a minute are a storm of the commonest class; after that, no
// minute has more than ten starts.
func TestStorm(t *testing.T) {
	p := usual(noBreaker, func(p *Policy) { p.Initial, p.Factor, p.Max = time.Second, 1, time.Second })
	s, at, began := State{}, noon, 0
	var starts []time.Time
	for n := range 60 {
		class := OOM
		if n%3 == 2 {
			class = Crash
		}
		v := s.Failed(p, class, at, "u")
		if v.Began {
			began++
		}
		if v.Storm != (n >= 10) {
			t.Fatalf("failure %d: %+v", n+1, v)
		}
		if v.Storm && (v.Cause != OOM || !strings.Contains(v.Advice, "lower ctx") ||
			!strings.Contains(v.Advice, "memory_max")) {
			t.Errorf("failure %d: %s, %q", n+1, v.Cause, v.Advice)
		}
		at = v.Next
		if v.Storm {
			starts = append(starts, at)
		}
	}
	if began != 1 {
		t.Errorf("the storm began %d times", began)
	}
	for i := 10; i < len(starts); i++ {
		if d := starts[i].Sub(starts[i-10]); d < time.Minute {
			t.Errorf("eleven starts in %v", d)
		}
	}
	if c := s.Stable(p, at, at.Add(time.Minute)); c != (Change{Calm: true}) || s.Storm {
		t.Errorf("after a stable minute: %+v", c)
	}
}

// TestStormPasses: a storm ends by itself when failures become rare.
func TestStormPasses(t *testing.T) {
	p := usual(noBreaker, func(p *Policy) { p.Initial = 0 })
	var s State
	for range 11 {
		s.Failed(p, Crash, noon, "u")
	}
	if v := s.Failed(p, Crash, noon.Add(2*time.Minute), "u"); v.Storm || v.Began || v.Delay != 0 {
		t.Errorf("%+v", v)
	}
}

// TestWindow: the window covers what the failures take by themselves.
func TestWindow(t *testing.T) {
	r := pool.Restart{Initial: time.Second, Factor: 2, Max: 4 * time.Second, BreakerFailures: 3,
		BreakerWindow: time.Minute}
	cases := []struct {
		name        string
		classFactor float64
		window      time.Duration
		stall       time.Duration
		failures    int
		want        time.Duration
	}{
		{"wide_enough", 1, time.Hour, time.Minute, 3, time.Hour},
		{"loads_and_delays_are_longer", 1, time.Minute, time.Minute, 3, 3*time.Minute + 8*time.Second}, // 1+2+4, and one more
		{"slow_classes_wait_longer", 2, time.Minute, time.Minute, 3, 3*time.Minute + 15*time.Second},
		{"no_limit", 1, time.Hour, time.Minute, 0, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r.ClassFactor, r.BreakerWindow, r.BreakerFailures = c.classFactor, c.window, c.failures
			if got := Window(r, c.stall); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}

// TestJSON: what is kept is what comes back, whatever clock the times came from.
func TestJSON(t *testing.T) {
	p, s := usual(), State{}
	zone := time.FixedZone("far", 3600)
	for range 6 {
		s.Failed(p, CUDA, time.Now().In(zone), "u")
	}
	roundTrip(t, s)
	roundTrip(t, State{})
}

func roundTrip(t *testing.T, s State) {
	t.Helper()
	data, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var back State
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if !same(s, back) {
		t.Fatalf("kept as %s\n was %+v\n  is %+v", data, s, back)
	}
}
