package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// shelf is a store in memory that can be made to fail.
type shelf struct {
	mu   sync.Mutex
	list map[string]Lease
	fail error
}

func newShelf() *shelf { return &shelf{list: make(map[string]Lease)} }

// failWith has it fail until it is called with nil.
func (s *shelf) failWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

func (s *shelf) Load() ([]Lease, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Lease
	for _, l := range s.list {
		out = append(out, l)
	}
	return out, nil
}

func (s *shelf) Save(put []Lease, drop []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		return s.fail
	}
	for _, l := range put {
		s.list[l.ID] = l
	}
	for _, id := range drop {
		delete(s.list, id)
	}
	return nil
}

// size is how many leases are stored that did not end.
func (s *shelf) size() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.list {
		if l.Lost == "" {
			n++
		}
	}
	return n
}

// desk is a book that runs.
type desk struct {
	*Book
	t     *testing.T
	mu    sync.Mutex
	ended []Ended
	stop  func()
}

// open runs a book over a store; in a synctest bubble the moments are the bubble's.
func open(t *testing.T, s Store) *desk {
	t.Helper()
	began := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	b, err := Open(s, func() Moment { return Moment(time.Since(began)) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return run1(t, b)
}

// run1 runs a book.
func run1(t *testing.T, b *Book) *desk {
	d := &desk{Book: b, t: t}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Run(ctx, func(e []Ended) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.ended = append(d.ended, e...)
		})
	}()
	d.stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(d.stop)
	return d
}

func two(slots0, slots1 int) Pool {
	return Pool{Seats: []Seat{
		{Replica: "r0", Run: "run0", Endpoint: "http://127.0.0.1:1", Slots: slots0, Open: true},
		{Replica: "r1", Run: "run1", Endpoint: "http://127.0.0.1:2", Slots: slots1, Open: true},
	}}
}

func (d *desk) set(p Pool) []Ended {
	return d.SetPool("a", p, func(r string) string { return "the engine of " + r + " has ended" })
}

func (d *desk) take(replica string) (Lease, error) {
	return d.Acquire(d.t.Context(), Ask{Pool: "a", Replica: replica, Holder: "me", TTL: 30 * time.Second})
}

func (d *desk) must(replica string) Lease {
	d.t.Helper()
	l, err := d.take(replica)
	if err != nil {
		d.t.Fatal(err)
	}
	return l
}

func scenario(t *testing.T, name string, f func(t *testing.T, s *shelf)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, newShelf()) }) })
}

func TestAcquire(t *testing.T) {
	scenario(t, "least_loaded_by_share_then_by_name", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(2, 4))
		var got string
		for range 6 {
			got += d.must("").Replica[1:]
		}
		if got != "011011" {
			t.Errorf("replicas %s, want 011011", got)
		}
	})
	scenario(t, "r10_comes_after_r2", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(Pool{Seats: []Seat{{Replica: "r10", Run: "x", Slots: 1, Open: true},
			{Replica: "r2", Run: "y", Slots: 1, Open: true}}})
		if l := d.must(""); l.Replica != "r2" {
			t.Errorf("replica %s", l.Replica)
		}
	})
	scenario(t, "one_that_asks_for_r0_gets_whichever_engine_serves_it", func(t *testing.T, s *shelf) {
		d := open(t, s)
		sides := func(old, beside bool) Pool {
			return Pool{Seats: []Seat{
				{Replica: "r0", Stable: "r0", Run: "old", Slots: 1, Open: old},
				{Replica: "r0b", Stable: "r0", Run: "new", Slots: 1, Open: beside},
				{Replica: "r1", Stable: "r1", Run: "other", Slots: 9, Open: true},
			}}
		}
		d.set(sides(true, false))
		first := d.must("r0")
		d.set(sides(false, true))
		second := d.must("r0")
		if first.Replica != "r0" || second.Replica != "r0b" {
			t.Errorf("before the reload %s, after it %s", first.Replica, second.Replica)
		}
		if _, err := d.take("r0"); !errors.Is(err, ErrExhausted) {
			t.Errorf("with one slot held of one: %v", err)
		}
		d.set(sides(false, false))
		if _, err := d.take("r0"); !errors.Is(err, ErrNotReady) {
			t.Errorf("with neither open: %v", err)
		}
	})
	refusals := []struct {
		name    string
		pool    Pool
		replica string
		held    int
		want    error
	}{
		{"draining", Pool{Draining: true, Seats: two(1, 1).Seats}, "", 0, ErrDraining},
		{"nothing_ready", Pool{Seats: []Seat{{Replica: "r0", Run: "x", Slots: 1}}}, "", 0, ErrNotReady},
		{"the_named_one_is_not_ready", Pool{Seats: []Seat{{Replica: "r0", Run: "x", Slots: 1}, {Replica: "r1", Run: "y", Slots: 1, Open: true}}}, "r0", 0, ErrNotReady},
		{"the_named_one_is_not_there", two(1, 1), "r7", 0, ErrNotReady},
		{"all_held", two(1, 1), "", 2, ErrExhausted},
		{"the_named_one_is_held", two(1, 1), "r0", 1, ErrExhausted},
		{"no_slots_known", two(0, 0), "", 0, ErrExhausted},
	}
	for _, c := range refusals {
		scenario(t, "refused/"+c.name, func(t *testing.T, s *shelf) {
			d := open(t, s)
			d.set(c.pool)
			for range c.held {
				d.must(c.replica)
			}
			if _, err := d.take(c.replica); !errors.Is(err, c.want) {
				t.Errorf("err = %v, want %v", err, c.want)
			}
		})
	}
	scenario(t, "refused/unknown_pool", func(t *testing.T, s *shelf) {
		if _, err := open(t, s).take(""); !errors.Is(err, ErrNoPool) {
			t.Errorf("err = %v", err)
		}
	})
	scenario(t, "not_answered_unless_written", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 0))
		s.fail = errors.New("no space left on device")
		if _, err := d.take(""); !errors.Is(err, ErrStore) {
			t.Errorf("err = %v", err)
		}
		if n := d.Active("a", "r0"); n != 0 {
			t.Errorf("%d slots are held without a lease", n)
		}
	})
}

func TestRestart(t *testing.T) {
	scenario(t, "leases_outlive_the_manager_and_expire_through_it", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		kept, dead := d.must("r0"), d.must("r1")
		d.stop()
		time.Sleep(10 * time.Second)
		d = open(t, s)
		if d.Active("a", "r0") != 1 {
			t.Fatal("forgotten")
		}
		p := two(1, 1)
		p.Seats[1].Run = "restarted while no manager ran"
		if ended := d.set(p); len(ended) != 1 || ended[0].ID != dead.ID {
			t.Errorf("ended %v", ended)
		}
		if _, err := d.take("r0"); !errors.Is(err, ErrExhausted) {
			t.Errorf("the slot was given twice: %v", err)
		}
		time.Sleep(20*time.Second + time.Millisecond)
		synctest.Wait()
		if len(d.ended) != 1 || d.ended[0].ID != kept.ID {
			t.Errorf("expired %v", d.ended)
		}
	})
}

// TestChanged: the registry has counted what a caller did before the caller has its answer, once
// for all that are written together.
func TestChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := slowShelf{newShelf(), make(chan struct{})}
		var mu sync.Mutex
		var counted []string
		b, err := Open(slow, func() Moment { return 1 }, func(pool string) {
			mu.Lock()
			defer mu.Unlock()
			counted = append(counted, pool)
		})
		if err != nil {
			t.Fatal(err)
		}
		d := run1(t, b)
		d.set(two(9, 9))
		answered := make(chan error, 9)
		for range 9 {
			go func() { _, err := d.take(""); answered <- err }()
			synctest.Wait() // the first is being written, the others gather
		}
		close(slow.open)
		for range 9 {
			if err := <-answered; err != nil {
				t.Error(err)
			}
		}
		if mu.Lock(); len(counted) != 2 || counted[0] != "a" {
			t.Errorf("counted %v, want pool a twice", counted)
		}
		mu.Unlock()
		d.Cut("a", "r0", "the deadline")
		synctest.Wait()
		// The writer may begin before the last of the cut leases is queued: one batch or more.
		if mu.Lock(); len(counted) < 3 {
			t.Errorf("counted %v, want it again after a cut", counted)
		}
		mu.Unlock()
	})
}

func TestThousandCallers(t *testing.T) {
	const slots, callers = 37, 1000
	d := open(t, newShelf())
	d.set(two(slots, slots))
	var wg sync.WaitGroup
	var mu sync.Mutex
	got := make(map[string]bool)
	for range callers {
		wg.Go(func() {
			l, err := d.Acquire(t.Context(), Ask{Pool: "a", Holder: "me", TTL: time.Minute})
			if err != nil {
				if !errors.Is(err, ErrExhausted) {
					t.Error(err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if got[l.ID] {
				t.Error("one lease was given twice")
			}
			got[l.ID] = true
		})
	}
	wg.Wait()
	if len(got) != 2*slots || d.Active("a", "r0") != slots || d.Active("a", "r1") != slots {
		t.Errorf("%d leases, %d and %d held, want %d of each", len(got), d.Active("a", "r0"), d.Active("a", "r1"),
			slots)
	}
}

// FuzzBook holds that whatever is done in whatever order, no replica has more leases than slots,
// and the store has what the book has.
func FuzzBook(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 2, 3, 4, 5})
	f.Fuzz(mutate.Many(func(t *testing.T, ops []byte) {
		synctest.Test(t, func(t *testing.T) {
			s := newShelf()
			d := open(t, s)
			pool, run := two(2, 3), 0
			d.set(pool)
			var ids []string
			for _, op := range ops {
				switch op % 8 {
				case 0, 1:
					if l, err := d.take([]string{"", "r0", "r1"}[int(op/8)%3]); err == nil {
						ids = append(ids, l.ID)
					}
				case 2:
					if len(ids) > 0 {
						_ = d.Release(t.Context(), "a", ids[int(op/8)%len(ids)])
					}
				case 3:
					if len(ids) > 0 {
						_, _ = d.Renew(t.Context(), "a", ids[int(op/8)%len(ids)], time.Duration(op)*time.Second)
					}
				case 4:
					time.Sleep(time.Duration(op) * time.Second)
				case 5:
					run++
					pool.Seats[int(op/8)%2].Run = fmt.Sprint(run)
					d.set(pool)
				case 6:
					pool.Draining = !pool.Draining
					d.set(pool)
				case 7:
					d.stop()
					d = open(t, s)
					d.set(pool)
				}
				synctest.Wait()
				for _, seat := range pool.Seats {
					if n := d.Active("a", seat.Replica); n > seat.Slots || n < 0 {
						t.Fatalf("%s has %d leases for %d slots", seat.Replica, n, seat.Slots)
					}
				}
				if n := len(d.Leases("a")); n != s.size() || n != d.Active("a", "r0")+d.Active("a", "r1") {
					t.Fatalf("%d leases, %d stored, %d and %d counted", n, s.size(), d.Active("a", "r0"),
						d.Active("a", "r1"))
				}
			}
		})
	}))
}

// TestSetPoolIsFlat: what a pool's report costs does not depend on how many leases are held.
func TestSetPoolIsFlat(t *testing.T) {
	book := filled(t, 10_000)
	pool := two(10_000, 10_000)
	if n := testing.AllocsPerRun(10, func() { book.SetPool("a", pool, nil) }); n > 1 {
		t.Errorf("%.0f allocations with 10000 leases held", n)
	}
}

// filled is a book with so many leases: half in pool a, half in pool b.
func filled(t testing.TB, held int) *Book {
	t.Helper()
	s := newShelf()
	for n := range held {
		l := Lease{ID: fmt.Sprint(n), Pool: []string{"a", "b"}[n%2], Replica: "r0", Run: "run0", Expires: 1 << 60}
		s.list[l.ID] = l
	}
	book, err := Open(s, func() Moment { return 0 }, nil)
	if err != nil {
		t.Fatal(err)
	}
	return book
}

// BenchmarkSetPool is one report of a pool's state while so many leases are held.
func BenchmarkSetPool(b *testing.B) {
	for _, held := range []int{100, 100_000} {
		b.Run(fmt.Sprint(held, "_held"), func(b *testing.B) {
			book, pool := filled(b, held), two(held, held)
			for b.Loop() {
				book.SetPool("a", pool, nil)
			}
		})
	}
}
