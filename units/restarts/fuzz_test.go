package restarts

import (
	"math"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// walk is a replica that a fuzzer drives, with the invariants after each event.
type walk struct {
	t      *testing.T
	policy Policy
	state  State
	at     time.Time
	trials int // that run now
}

// FuzzBreaker drives a replica by bytes: two for each event, what happens and how much later.
func FuzzBreaker(f *testing.F) {
	f.Add(int64(time.Second), 2.0, int64(time.Minute), 0.1, 2.0, byte(5), byte(10),
		[]byte{0, 1, 0, 2, 0, 4, 0, 8, 0, 16, 2, 255, 0, 1, 2, 255, 4, 70})
	f.Add(int64(0), 0.0, int64(0), 1.0, 1.0, byte(0), byte(1), []byte{0, 0, 0, 0, 0, 0, 1, 0, 5, 0, 3, 9})
	f.Add(int64(math.MaxInt64), math.Inf(1), int64(math.MaxInt64), math.NaN(), math.NaN(), byte(1), byte(0),
		[]byte{6, 3, 0, 1, 2, 255, 2, 0})
	f.Fuzz(mutate.Many(func(t *testing.T, initial int64, factor float64, longest int64, jitter, class float64,
		failures, storm byte, ops []byte) {
		// Restart tables hold no more than these (units/config): a week, and factors of ten.
		w := walk{t: t, at: noon, policy: Policy{
			Initial: span(initial), Factor: factor, Max: span(longest), Jitter: jitter,
			ClassFactor: math.Min(class, 10),
			ResetAfter:  10 * time.Minute, StableAfter: time.Minute, StormRestarts: int(storm),
			StormWindow:     time.Minute,
			BreakerFailures: int(failures), BreakerWindow: 30 * time.Minute, BreakerTimeout: 5 * time.Minute,
			BreakerMax: time.Hour,
		}}
		for len(ops) >= 2 && len(ops) <= 400 {
			w.at = w.at.Add(time.Duration(ops[1]) * time.Duration(ops[1]) * 50 * time.Millisecond) // up to 54 min
			w.step(ops[0])
			ops = ops[2:]
		}
	}))
}

func span(n int64) time.Duration {
	return time.Duration(n).Abs() % (7 * 24 * time.Hour)
}

// step does one event, and checks what must hold whatever happened before.
func (w *walk) step(op byte) {
	before := w.state
	switch op % 7 {
	case 0:
		w.failed()
	case 1:
		w.state.Gave(w.policy, w.at, "u")
		w.trials = 0
	case 2:
		w.started(before)
	case 3:
		w.state.Stopped(w.policy, w.at)
		w.trials = 0
	case 4:
		w.stable(before)
	case 5:
		w.state.Reset()
		w.trials = 0
	case 6:
		w.state.Restarted(w.policy, int(op)/7, w.at)
	}
	w.holds(before)
}

func (w *walk) failed() {
	v := w.state.Failed(w.policy, Class([]Class{Crash, CUDA, OOM}[w.state.Total%3]), w.at, "u")
	w.trials = 0
	p := w.policy
	most := float64(max(p.Max, p.Initial)) * (1 + p.jitter()) * atLeastOne(p.ClassFactor)
	if v.Backoff < 0 || float64(v.Backoff) > most*(1+1e-9) {
		w.t.Fatalf("a backoff of %v, want at most %v", v.Backoff, time.Duration(most))
	}
	if v.Delay < v.Backoff || !v.Next.Equal(w.at.Add(v.Delay)) {
		w.t.Fatalf("%+v: the delay is not from %v to the next start", v, w.at)
	}
	if v.Breaker == Open && v.Next.Before(v.Until) || v.Breaker == HalfOpen || (v.Breaker == Open) == v.Until.IsZero() {
		w.t.Fatalf("%+v", v)
	}
}

func (w *walk) started(before State) {
	err := w.state.Started(w.policy, w.at)
	switch {
	case err != nil && !same(before, w.state):
		w.t.Fatalf("a refused start made %+v of %+v", w.state, before)
	case err != nil && before.BreakerNow() == Closed:
		w.t.Fatal("a closed breaker refused a start: ", err)
	case err == nil && before.BreakerNow() == Open && w.at.Before(before.Until):
		w.t.Fatalf("a start at %v from a breaker that is open until %v", w.at, before.Until)
	case err == nil && w.state.BreakerNow() == HalfOpen:
		if w.trials++; w.trials > 1 {
			w.t.Fatal("two trials at once")
		}
	}
}

func (w *walk) stable(before State) {
	since := w.at.Add(-time.Duration(before.Total%20) * time.Minute)
	next := w.state.NextStable(w.policy, since)
	c := w.state.Stable(w.policy, since, w.at)
	if due := !next.IsZero() && !next.After(w.at); due != (c != Change{}) {
		w.t.Fatalf("it said that something changes at %v, and at %v came %+v", next, w.at, c)
	}
	if w.state.BreakerNow() == Closed {
		w.trials = 0
	}
}

func (w *walk) holds(before State) {
	s := w.state
	if s.Total < before.Total || s.Failures < 0 || s.Failures > s.Total {
		w.t.Fatalf("%+v after %+v", s, before)
	}
	if (s.BreakerNow() == HalfOpen) != (w.trials == 1) {
		w.t.Fatalf("%s with %d trials", s.Breaker, w.trials)
	}
	if before.BreakerNow() == Open && s.BreakerNow() == Open && s.Until.Before(before.Until) {
		w.t.Fatalf("an open breaker's time went from %v to %v", before.Until, s.Until)
	}
	of := map[Class]bool{}
	for _, f := range s.Recent {
		of[f.Class] = true
	}
	if most := w.policy.BreakerFailures*len(of) + w.policy.StormRestarts + 1; len(s.Recent) > most {
		w.t.Fatalf("%d failures are remembered, want at most %d", len(s.Recent), most)
	}
	roundTrip(w.t, s)
}
