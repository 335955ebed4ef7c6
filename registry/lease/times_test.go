package lease

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// slowShelf is a store whose writes wait until it is let go.
type slowShelf struct {
	*shelf
	open chan struct{}
}

func (s slowShelf) Save(put []Lease, drop []string) error {
	<-s.open
	return s.shelf.Save(put, drop)
}

// lives fails the test unless a lease lives for just so long from now.
func (d *desk) lives(l Lease, left time.Duration) {
	d.t.Helper()
	held := func() bool {
		synctest.Wait()
		for _, h := range d.Leases(l.Pool) {
			if h.ID == l.ID {
				return true
			}
		}
		return false
	}
	time.Sleep(left - time.Millisecond)
	if !held() {
		d.t.Errorf("it has ended more than a millisecond before %s", left)
	}
	if time.Sleep(2 * time.Millisecond); held() {
		d.t.Errorf("it is held for longer than %s", left)
	}
}

// TestTimes: a lease ends at its own time, whatever others do.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		name        string
		asked, want time.Duration
	}{
		{"none_is_half_a_minute", 0, 30 * time.Second},
		{"at_least_a_second", time.Millisecond, time.Second},
		{"at_most_a_day", 1000 * time.Hour, 24 * time.Hour},
		{"as_asked", time.Minute, time.Minute},
	} {
		scenario(t, c.name, func(t *testing.T, s *shelf) {
			d := open(t, s)
			d.set(two(1, 1))
			l, err := d.Acquire(t.Context(), Ask{Pool: "a", Holder: "me", TTL: c.asked})
			if err != nil {
				t.Fatal(err)
			}
			d.lives(l, c.want)
		})
	}
	scenario(t, "a_short_one_after_a_long_one", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(2, 0))
		long, err := d.Acquire(t.Context(), Ask{Pool: "a", Holder: "me", TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // the one that waits for the first deadline sleeps
		short, err := d.Acquire(t.Context(), Ask{Pool: "a", Holder: "me", TTL: 2 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		d.lives(short, 2*time.Second)
		if n := d.Active("a", "r0"); n != 1 {
			t.Errorf("%d slots are held, want the long one's", n)
		}
		d.lives(long, time.Hour-2*time.Second-time.Millisecond)
	})
	scenario(t, "a_renewal_may_shorten", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		l := d.must("")
		synctest.Wait()
		if _, err := d.Renew(t.Context(), "a", l.ID, 2*time.Second); err != nil {
			t.Fatal(err)
		}
		d.lives(l, 2*time.Second)
	})
	scenario(t, "one_that_is_renewed_outlives_those_after_it", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(3, 0))
		first, second, third := d.must(""), d.must(""), d.must("")
		if _, err := d.Renew(t.Context(), "a", first.ID, time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := d.Renew(t.Context(), "a", third.ID, 45*time.Second); err != nil {
			t.Fatal(err)
		}
		d.lives(second, 30*time.Second)
		d.lives(third, 15*time.Second-time.Millisecond)
		d.lives(first, 15*time.Second-time.Millisecond)
	})
	scenario(t, "a_renewal_outlives_the_manager", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 0))
		l := d.must("")
		if _, err := d.Renew(t.Context(), "a", l.ID, time.Hour); err != nil {
			t.Fatal(err)
		}
		d.stop()
		d = open(t, s)
		d.set(two(1, 0))
		d.lives(l, time.Hour)
	})
	scenario(t, "one_that_is_released_leaves_the_other", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(2, 0))
		one, other := d.must(""), d.must("")
		if err := d.Release(t.Context(), "a", one.ID); err != nil {
			t.Fatal(err)
		}
		if n := d.Active("a", "r0"); n != 1 {
			t.Errorf("%d slots are held, want the other's", n)
		}
		d.lives(other, 30*time.Second)
	})
}

// TestNotWritten: what could not be saved did not happen.
func TestNotWritten(t *testing.T) {
	scenario(t, "a_renewal", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(2, 0))
		l := d.must("")
		s.failWith(errors.New("no space left on device"))
		if _, err := d.Renew(t.Context(), "a", l.ID, time.Hour); !errors.Is(err, ErrStore) {
			t.Errorf("err = %v", err)
		}
		d.lives(l, 30*time.Second)
	})
	scenario(t, "a_renewal_beside_another_that_was", func(t *testing.T, s *shelf) {
		slow := slowShelf{s, make(chan struct{}, 100)}
		d := open(t, slow)
		d.set(two(1, 0))
		slow.open <- struct{}{}
		l := d.must("")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		given := make(chan error)
		go func() { _, err := d.Renew(ctx, "a", l.ID, 40*time.Second); given <- err }()
		synctest.Wait()
		later := make(chan error)
		go func() { _, err := d.Renew(t.Context(), "a", l.ID, time.Minute); later <- err }()
		if err := <-given; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("err = %v", err)
		}
		for range 50 {
			slow.open <- struct{}{}
		}
		if err := <-later; err != nil {
			t.Fatal(err)
		}
		d.lives(l, time.Minute-time.Second)
	})
	scenario(t, "a_release_frees_the_slot_and_is_written_when_it_is_repeated", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 0))
		l := d.must("")
		s.failWith(errors.New("no space left on device"))
		for range 2 {
			if err := d.Release(t.Context(), "a", l.ID); !errors.Is(err, ErrStore) {
				t.Errorf("err = %v", err)
			}
		}
		if n := d.Active("a", "r0"); n != 0 {
			t.Errorf("%d slots are held", n)
		}
		s.failWith(nil)
		if err := d.Release(t.Context(), "a", l.ID); err != nil || s.size() != 0 {
			t.Errorf("err = %v, %d leases are stored", err, s.size())
		}
	})
	scenario(t, "a_release_is_written_with_the_next_change", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 0))
		l := d.must("")
		s.failWith(errors.New("no space left on device"))
		if err := d.Release(t.Context(), "a", l.ID); !errors.Is(err, ErrStore) {
			t.Errorf("err = %v", err)
		}
		s.failWith(nil)
		d.must("")
		if n := s.size(); n != 1 {
			t.Errorf("%d leases are stored, want the second", n)
		}
	})
	scenario(t, "a_lease_whose_caller_has_gone", func(t *testing.T, s *shelf) {
		slow := slowShelf{s, make(chan struct{})}
		d := open(t, slow)
		d.set(two(1, 0))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := d.Acquire(ctx, Ask{Pool: "a", Holder: "me", TTL: time.Hour}); !errors.Is(err, ErrStore) {
			t.Errorf("err = %v", err)
		}
		close(slow.open)
		synctest.Wait()
		if n := s.size(); n != 0 || d.Active("a", "r0") != 0 {
			t.Errorf("%d leases are stored, %d slots held; want none", n, d.Active("a", "r0"))
		}
	})
}

// TestForget: a pool that is removed takes its own leases with it, and no others.
func TestForget(t *testing.T) {
	scenario(t, "its_own", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		d.SetPool("b", two(1, 1), nil)
		ours := d.must("")
		theirs, err := d.Acquire(t.Context(), Ask{Pool: "b", Holder: "me", TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if ended := d.Forget("a"); len(ended) != 1 || ended[0].ID != ours.ID || ended[0].Why != "the pool was removed" {
			t.Errorf("ended %v", ended)
		}
		if _, err := d.take(""); !errors.Is(err, ErrNoPool) {
			t.Errorf("a lease of what was removed: %v", err)
		}
		if _, err := d.Renew(t.Context(), "a", ours.ID, 0); !errors.Is(err, ErrLost) {
			t.Errorf("its renewal: %v", err)
		}
		if got := d.Leases("b"); len(got) != 1 || got[0].ID != theirs.ID {
			t.Errorf("the other pool has %v", got)
		}
	})
	scenario(t, "a_cut_is_of_one_replica", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		cut, kept := d.must("r0"), d.must("r1")
		if ended := d.Cut("a", "r0", "the deadline"); len(ended) != 1 || ended[0].ID != cut.ID {
			t.Errorf("ended %v", ended)
		}
		d.lives(kept, 30*time.Second)
	})
}

func TestMoment(t *testing.T) {
	if got := Moment(10).Add(5).Sub(Moment(3)); got != 12 {
		t.Errorf("10 ns and 5 ns, from 3 ns on, are %d ns", got)
	}
}

// TestAKeySurvivesTheManager: the next manager knows the key of a lease that is held, and no key of
// one that has ended.
func TestAKeySurvivesTheManager(t *testing.T) {
	scenario(t, "restart", func(t *testing.T, s *shelf) {
		ask := Ask{Pool: "a", Holder: "me", TTL: time.Minute, Key: "k", Sum: "s"}
		d := open(t, s)
		d.set(two(2, 2))
		first, err := d.Acquire(t.Context(), ask)
		if err != nil {
			t.Fatal(err)
		}
		d.stop()
		d = open(t, s)
		d.set(two(2, 2))
		again, err := d.Acquire(t.Context(), ask)
		if err != nil || again.ID != first.ID {
			t.Errorf("%v %v, want %s", again, err, first.ID)
		}
		other := ask
		other.Sum = "t"
		if _, err := d.Acquire(t.Context(), other); !errors.Is(err, ErrKeyUsed) {
			t.Errorf("another request: %v", err)
		}
		if err := d.Release(t.Context(), "a", first.ID); err != nil {
			t.Fatal(err)
		}
		if next, err := d.Acquire(t.Context(), ask); err != nil || next.ID == first.ID {
			t.Errorf("after its release: %v %v", next, err)
		}
	})
}
