package lease

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestEnd: how leases end, with and against the will of their holders.
func TestEnd(t *testing.T) {
	scenario(t, "expires_by_itself_and_says_so", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		l := d.must("")
		time.Sleep(30*time.Second - time.Millisecond)
		if d.Active("a", "r0") != 1 {
			t.Fatal("ended too early")
		}
		time.Sleep(2 * time.Millisecond)
		synctest.Wait()
		if d.Active("a", "r0") != 0 || len(d.ended) != 1 || d.ended[0].ID != l.ID || s.size() != 0 {
			t.Errorf("active %d, ended %v, stored %d", d.Active("a", "r0"), d.ended, s.size())
		}
		if _, err := d.Renew(t.Context(), "a", l.ID, 0); !errors.Is(err, ErrLost) {
			t.Errorf("renewal after the end: %v", err)
		}
	})
	scenario(t, "renewed_in_time_lives", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		l := d.must("")
		for range 10 {
			time.Sleep(20 * time.Second)
			if _, err := d.Renew(t.Context(), "a", l.ID, 30*time.Second); err != nil {
				t.Fatal(err)
			}
		}
	})
	scenario(t, "release_twice_is_one", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		l := d.must("")
		for range 2 {
			if err := d.Release(t.Context(), "a", l.ID); err != nil {
				t.Fatal(err)
			}
		}
		if d.Active("a", "r0") != 0 || s.size() != 0 {
			t.Error("the slot is still held")
		}
		if _, err := d.Renew(t.Context(), "a", l.ID, 0); !errors.Is(err, ErrUnknown) {
			t.Errorf("renewal after the release: %v", err)
		}
	})
	scenario(t, "another_pools_lease_is_not_ours", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		l := d.must("")
		if err := d.Release(t.Context(), "b", l.ID); err != nil || d.Active("a", "r0") != 1 {
			t.Errorf("err = %v, active %d", err, d.Active("a", "r0"))
		}
	})
	scenario(t, "engine_that_dies_takes_its_leases", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		dead, alive := d.must("r0"), d.must("r1")
		p := two(1, 1)
		p.Seats[0].Run = "run2"
		if ended := d.set(p); len(ended) != 1 || ended[0].ID != dead.ID {
			t.Errorf("ended %v", ended)
		}
		var lost *LostError
		if _, err := d.Renew(t.Context(), "a", dead.ID, 0); !errors.As(err, &lost) ||
			lost.Why != "the engine of r0 has ended" {
			t.Errorf("err = %v", err)
		}
		if _, err := d.Renew(t.Context(), "a", alive.ID, 0); err != nil {
			t.Error(err)
		}
	})
	scenario(t, "why_it_ended_is_known_to_the_next_manager", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		dead := d.must("r0")
		p := two(1, 1)
		p.Seats[0].Run = "run2"
		d.set(p)
		d.stop()
		d = open(t, s)
		var lost *LostError
		if _, err := d.Renew(t.Context(), "a", dead.ID, 0); !errors.As(err, &lost) ||
			lost.Why != "the engine of r0 has ended" {
			t.Errorf("err = %v", err)
		}
		if d.Active("a", "r0") != 0 || len(d.Leases("a")) != 0 {
			t.Error("a lease that ended is held again")
		}
	})
	scenario(t, "only_the_newest_ends_are_remembered_and_stored", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		first := d.must("r0")
		for range remembered + 1 {
			d.Cut("a", "r0", "the drain's deadline")
			d.must("r0")
			synctest.Wait()
		}
		if _, err := d.Renew(t.Context(), "a", first.ID, 0); !errors.Is(err, ErrUnknown) {
			t.Errorf("err = %v", err)
		}
		if n := len(s.list); n != remembered+1 {
			t.Errorf("%d entries are stored", n)
		}
	})
	scenario(t, "unready_engine_keeps_its_leases", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		d.must("r0")
		p := two(1, 1)
		p.Seats[0].Open = false
		if ended := d.set(p); len(ended) != 0 || d.Active("a", "r0") != 1 {
			t.Errorf("ended %v", ended)
		}
	})
	scenario(t, "drain_lets_renew_up_to_its_deadline", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		l := d.must("r0")
		p := two(1, 1)
		p.Draining, p.RenewUntil = true, d.now().Add(10*time.Second)
		d.set(p)
		if l, err := d.Renew(t.Context(), "a", l.ID, time.Hour); err != nil || l.Expires != p.RenewUntil {
			t.Errorf("lives until %d, want %d; %v", l.Expires, p.RenewUntil, err)
		}
		if ended := d.Cut("a", "r0", "the drain's deadline"); len(ended) != 1 || d.Active("a", "r0") != 0 {
			t.Errorf("cut %v", ended)
		}
	})
	scenario(t, "a_long_reason_is_cut", func(t *testing.T, s *shelf) {
		d := open(t, s)
		d.set(two(1, 1))
		held := d.must("r0")
		d.Cut("a", "r0", strings.Repeat("é", 1<<20))
		synctest.Wait()
		if n := len(s.list[held.ID].Lost); n == 0 || n > maxReason {
			t.Errorf("%d bytes are stored", n)
		}
	})
	scenario(t, "many_expire_at_the_same_time", func(t *testing.T, s *shelf) {
		const many = 3*expireAtOnce + 7
		d := open(t, s)
		d.set(two(many, many))
		for range many {
			d.must("")
		}
		time.Sleep(30*time.Second + time.Millisecond)
		synctest.Wait()
		if n := d.Active("a", "r0") + d.Active("a", "r1"); n != 0 || len(d.ended) != many || s.size() != 0 {
			t.Errorf("%d are held, %d were reported, %d stored", n, len(d.ended), s.size())
		}
	})
	scenario(t, "leases_of_one_run_end_and_those_of_the_next_stay", func(t *testing.T, s *shelf) {
		d := open(t, s)
		p := two(9, 9)
		d.set(p)
		d.must("r0")
		p.Seats = slices.Clone(p.Seats)
		p.Seats[0].Run = "run2"
		if ended := d.set(p); len(ended) != 1 {
			t.Errorf("ended %v", ended)
		}
		kept := d.must("r0")
		for range 3 {
			if ended := d.set(p); len(ended) != 0 || d.Active("a", "r0") != 1 {
				t.Errorf("ended %v", ended)
			}
		}
		d.Forget("a")
		if _, err := d.Renew(t.Context(), "a", kept.ID, 0); !errors.Is(err, ErrLost) {
			t.Errorf("err = %v", err)
		}
	})
}
