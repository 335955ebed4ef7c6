package supervise

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/registry/lease/leaselog"
	"github.com/pool-managerd/pool-managerd/units/keep"
)

// book is the book of leases as the daemon has it, but for events.
type book struct{ *lease.Book }

func (b book) SetPool(id string, p lease.Pool, why func(string) string) { b.Book.SetPool(id, p, why) }
func (b book) Forget(id string)                                         { b.Book.Forget(id) }
func (b book) Cut(pool, replica, why string)                            { b.Book.Cut(pool, replica, why) }

// leased is a manager and the book that it keeps, and what both leave behind.
type leased struct {
	*manager
	book book
	file string
	end  func()
}

// lend runs a manager with a book of the leases in a file.
func (w *world) lend(t *testing.T, file string, d Desired, s *shelf) *leased {
	t.Helper()
	f, _ := leaselog.Open(file, nil)
	b, err := lease.Open(f, func() lease.Moment { return lease.Moment(time.Now().UnixNano()) }, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Run(ctx, func([]lease.Ended) {}) // its error is ctx's
	}()
	l := &leased{book: book{b}, file: file}
	l.end = func() {
		cancel()
		<-done
		_ = f.Close() // a second time is none
	}
	t.Cleanup(l.end)
	l.manager = w.manage(t, d, with(s, nil), func(o *Options) { o.Leases = l.book })
	return l
}

// again is the next manager, after the death of this one.
func (l *leased) again(d Desired, s *shelf) *leased {
	l.kill()
	l.end()
	return l.w.lend(l.t, l.file, d, s)
}

func (l *leased) acquire() lease.Lease {
	l.t.Helper()
	got, err := l.book.Acquire(l.t.Context(), lease.Ask{Pool: "a", Holder: "me", TTL: time.Hour})
	if err != nil {
		l.t.Fatal(err)
	}
	return got
}

func (l *leased) renew(id string) (lease.Lease, error) {
	synctest.Wait()
	return l.book.Renew(l.t.Context(), "a", id, time.Hour)
}

// wantLost is a lease whose holder is reported why it ended.
func (l *leased) wantLost(id, why string) {
	l.t.Helper()
	_, err := l.renew(id)
	var lost *lease.LostError
	if !errors.As(err, &lost) || !strings.Contains(lost.Why, why) {
		l.t.Errorf("err = %v, want it lost for %q", err, why)
	}
}

func TestLeasesOfAPool(t *testing.T) {
	lent := func(t *testing.T, w *world) (*leased, *shelf) {
		s := &shelf{kept: make(map[string]keep.Intent)}
		l := w.lend(t, filepath.Join(t.TempDir(), "leases.db"), pools(llama("a")), s)
		w.passGate(unitOf("a"))
		l.wantState("a", registry.StateReady, true)
		return l, s
	}
	scenario(t, "none_is_given_while_it_drains_and_those_held_live_to_the_deadline", func(t *testing.T, w *world) {
		l, _ := lent(t, w)
		held := l.acquire()
		began := time.Now()
		l.drain(time.Minute)
		ask := lease.Ask{Pool: "a", Holder: "me", TTL: time.Hour}
		if _, err := l.book.Acquire(t.Context(), ask); !errors.Is(err, lease.ErrDraining) {
			t.Errorf("acquire while it drains: %v", err)
		}
		got, err := l.renew(held.ID)
		if left := time.Duration(got.Expires) - time.Duration(began.UnixNano()); err != nil || left < time.Minute ||
			left > time.Minute+2*forceAfter {
			t.Errorf("renewed for %s, err %v", left, err)
		}
		time.Sleep(time.Minute)
		l.wantLost(held.ID, "DRAIN_TIMEOUT: 1 lease was still held")
		l.wantState("a", registry.StateStopped, false)
		l.resume()
		w.passGate(unitOf("a"))
		l.wantState("a", registry.StateReady, true)
		l.acquire()
	})
	scenario(t, "one_ends_with_its_process", func(t *testing.T, w *world) {
		l, _ := lent(t, w)
		held := l.acquire()
		w.change(unitOf("a"), crashed)
		l.wantLost(held.ID, "SIGSEGV")
	})
	scenario(t, "the_next_manager_knows_of_them", func(t *testing.T, w *world) {
		l, s := lent(t, w)
		held := l.acquire()
		l = l.again(pools(llama("a")), s)
		if _, err := l.renew(held.ID); err != nil {
			t.Error(err)
		}
		if p := l.pool("a"); l.book.Active("a", "r0") != 1 || !p.Ready {
			t.Errorf("%d leases of %+v", l.book.Active("a", "r0"), p)
		}
	})
	scenario(t, "the_next_manager_knows_of_those_of_an_external_engine", func(t *testing.T, w *world) {
		s := &shelf{kept: make(map[string]keep.Intent)}
		l := w.lend(t, filepath.Join(t.TempDir(), "leases.db"), pools(elsewhere("a")), s)
		l.wantState("a", registry.StateReady, true)
		held := l.acquire()
		l.drain(time.Minute)
		l = l.again(pools(elsewhere("a")), s)
		if _, err := l.renew(held.ID); err != nil {
			t.Error(err)
		}
		l.resume()
		l = l.again(pools(elsewhere("a")), s)
		if _, err := l.renew(held.ID); err != nil {
			t.Error(err)
		}
	})
	scenario(t, "none_of_a_side_that_a_reload_empties", func(t *testing.T, w *world) {
		l, _ := lent(t, w)
		held := l.acquire()
		l.reload("b.gguf", time.Minute)
		w.passGate(besideOf("a"))
		synctest.Wait()
		if got := l.acquire(); got.Replica != "r0b" {
			t.Errorf("the next lease is of %s", got.Replica)
		}
		if _, err := l.renew(held.ID); err != nil {
			t.Error(err)
		}
	})
}
