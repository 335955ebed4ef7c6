package supervise

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestDueTimes compares the heap with a list that is looked through, over a long random history.
func TestDueTimes(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	var d dueTimes
	pools := make([]*entry, 30)
	for i := range pools {
		pools[i] = &entry{id: fmt.Sprint(i)}
	}
	want := make(map[*entry]time.Time)
	at := func() time.Time { return time.Unix(rnd.Int64N(1000), 0) }
	for range 20_000 {
		e := pools[rnd.IntN(len(pools))]
		switch rnd.IntN(8) {
		case 0:
			d.drop(e)
			delete(want, e)
		case 1:
			now := time.Unix(rnd.Int64N(300), 0)
			taken := d.take(now)
			for _, e := range taken {
				if when, there := want[e]; !there || when.After(now) {
					t.Fatalf("pool %s was taken at %v and waits for %v", e.id, now, when)
				}
				delete(want, e)
			}
			for _, when := range want {
				if !when.After(now) {
					t.Fatalf("a pool that waits for %v was not taken at %v", when, now)
				}
			}
		default:
			when := at()
			d.add(e, when)
			if old, there := want[e]; !there || when.Before(old) {
				want[e] = when
			}
		}
		var first time.Time
		for _, when := range want {
			if first.IsZero() || when.Before(first) {
				first = when
			}
		}
		if !d.first().Equal(first) {
			t.Fatalf("the first is %v, want %v", d.first(), first)
		}
	}
}

// TestAWakeUpDecidesWhatIsDue: a pool that waits for its own time is neither decided on nor
// published when another's has come.
func TestAWakeUpDecidesWhatIsDue(t *testing.T) {
	s, w := retrying(3)
	now := time.Now()
	for i, e := range waiting(s) {
		e.replicas[pool.Replica{Pool: e.id}].prep.retryAt = now.Add(time.Duration(i-1) * time.Hour)
		s.due.drop(e)
		s.wakeAt(e, now.Add(time.Duration(i-1)*time.Hour))
	}
	before := len(w.calls)
	s.decideDue(now)
	for range 2 { // two are due, at -1 h and 0
		(<-s.events)()
	}
	if got := w.calls[before:]; len(got) != 2 || slices.Contains(got, "stage p0002") {
		t.Errorf("calls %v, want those of the two pools that were due", got)
	}
	if first := s.due.first(); first.IsZero() || !first.After(now) {
		t.Errorf("the next time is %v", first)
	}
}

// retrying is a supervisor, without its loop, of pools whose models are missing: each waits for its
// next attempt.
func retrying(n int) (*Supervisor, *world) {
	w := newWorld()
	w.stage = func(pool.Pool) error { return errors.New("no such file") }
	s := New(Options{
		PID1: w, Stager: w, Preparer: w, Prober: w, Ports: &listPorts{by: make(map[pool.Replica]int)},
		PortFree: w.portFree,
		Registry: registry.New(), Observer: noObserver{}, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Clock: keep.ClockOf("this", func() (int64, time.Time) { return time.Now().UnixNano(), time.Now() }),
		Host:  render.Host{GatePath: "/usr/lib/pool-managerd/pool-gate"}, BeatEvery: time.Minute,
	})
	s.ctx, s.connected = context.Background(), true
	d := Desired{}
	for i := range n {
		d.Pools = append(d.Pools, llama(fmt.Sprintf("p%04d", i)))
	}
	s.apply(d)
	for range n {
		(<-s.events)()
	}
	return s, w
}

// waiting are the pools of a supervisor by their ids.
func waiting(s *Supervisor) []*entry {
	var list []*entry
	for _, e := range s.entries {
		list = append(list, e)
	}
	slices.SortFunc(list, func(a, b *entry) int { return cmp.Compare(a.id, b.id) })
	return list
}

// BenchmarkWake is what one wake-up costs at which one of many pools is due: the decision, a failed
// staging beside the loop, and the publication. It must not grow with the number of pools.
func BenchmarkWake(b *testing.B) {
	for _, n := range []int{100, 400, 1000} {
		b.Run(fmt.Sprintf("of_%d", n), func(b *testing.B) {
			s, _ := retrying(n)
			list := waiting(s)
			for i := 0; b.Loop(); i++ {
				e := list[i%n]
				r := e.replicas[pool.Replica{Pool: e.id}]
				r.prep.forgetAttempts()
				s.wakeAt(e, time.Now())
				s.decideDue(time.Now())
				(<-s.events)()
			}
		})
	}
}
