package api

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// seat makes entries of a table; those that wait do so since the time that they were made at.
type seats struct {
	t   *testing.T
	tab *table
	now int64
}

// add admits an entry, and returns the one that was closed for it.
func (s *seats) add(who account, busy bool) (e, evicted *entry, ok bool) {
	s.now += clearEvery
	since := s.now
	e = &entry{account: who, idle: func() (int64, bool) { return since, !busy }}
	evicted, ok = s.tab.admit(e, s.now)
	return e, evicted, ok
}

// fill admits n entries that must have room.
func (s *seats) fill(who account, n int, busy bool) []*entry {
	s.t.Helper()
	var out []*entry
	for range n {
		e, evicted, ok := s.add(who, busy)
		if !ok || evicted != nil {
			s.t.Fatalf("%s: admitted %t, closed %v", who, ok, evicted)
		}
		out = append(out, e)
	}
	return out
}

var (
	root    = account{kind: accountUser, privileged: true}
	admin   = account{kind: accountUser, uid: 7, privileged: true}
	alice   = account{kind: accountUser, uid: 1000}
	bob     = account{kind: accountUser, uid: 1001}
	faraway = addressAccount(netip.MustParseAddr("192.0.2.7"))
)

func TestAdmission(t *testing.T) {
	conns := limits{all: 10, ordinary: 6, each: 4, swap: true}
	streams := limits{all: 10, ordinary: 6, each: 4}
	const no = -1
	for _, c := range []struct {
		name   string
		limits limits
		held   []account // each n times
		n      []int
		busy   bool // all of those are
		who    account
		closed int // whose entry is closed for it, by its place in held; no: no one's
		ok     bool
	}{
		{"there_is_room", conns, nil, nil, false, alice, no, true},
		{"an_account_at_its_limit_closes_its_own", conns, []account{alice}, []int{4}, false, alice, 0, true},
		{"of_its_busy_ones_none", conns, []account{alice}, []int{4}, true, alice, no, false},
		{"ordinary_callers_fill_their_part_only", conns, []account{alice, bob}, []int{4, 2}, false, faraway, 0, true},
		{"the_largest_loses_one_to_a_smaller", conns, []account{alice, bob}, []int{2, 4}, false, faraway, 1, true},
		{"and_not_to_one_that_has_as_many", conns, []account{alice, bob}, []int{3, 3}, false, alice, 0, true},
		{"busy_ones_are_left_alone", conns, []account{alice, bob}, []int{3, 3}, true, faraway, no, false},
		{"root_has_room_beside_them", conns, []account{alice, bob}, []int{4, 2}, true, root, no, true},
		{"root_has_more_than_one_account_may", conns, []account{root}, []int{9}, true, root, no, true},
		{"root_closes_the_largest", conns, []account{alice, bob, root}, []int{4, 2, 4}, false, admin, 0, true},
		{"root_closes_even_busy_ones_of_others", conns, []account{alice, bob, root}, []int{4, 2, 4}, true, admin, 0, true},
		{"root_closes_its_own_before", conns, []account{bob, root}, []int{1, 9}, false, root, 1, true},
		{"an_admin_has_its_share_of_roots", conns, []account{root}, []int{10}, false, admin, 0, true},
		{"root_alone_has_what_there_is", conns, []account{root}, []int{10}, true, root, no, false},
		{"ordinary_callers_do_not_push_root_out", conns, []account{root}, []int{10}, false, alice, no, false},
		{"a_stream_is_not_swapped", streams, []account{alice}, []int{4}, false, alice, no, false},
		{"a_stream_goes_to_one_that_has_fewer", streams, []account{alice, bob}, []int{4, 2}, false, faraway, 0, true},
		{"roots_streams_have_room", streams, []account{alice, bob}, []int{4, 2}, false, root, no, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &seats{t: t, tab: newTable(c.limits)}
			var held [][]*entry
			for i, who := range c.held {
				held = append(held, s.fill(who, c.n[i], c.busy))
			}
			_, evicted, ok := s.add(c.who, false)
			var want *entry
			if c.closed != no {
				want = held[c.closed][0] // the oldest
			}
			if ok != c.ok || evicted != want {
				t.Errorf("admitted %t, closed %+v; want %t and %+v", ok, evicted, c.ok, want)
			}
		})
	}
}

// TestOpeningWithoutEnd: an account with connections that are closed for its new ones may do so
// only so often, and one with few always.
func TestOpeningWithoutEnd(t *testing.T) {
	s := &seats{t: t, tab: newTable(limits{all: 20, ordinary: 10, each: 8, swap: true})}
	s.fill(alice, 8, false)
	if _, evicted, ok := s.add(alice, false); !ok || evicted == nil {
		t.Fatal("the first is not swapped")
	}
	s.now -= clearEvery // at the same moment
	if _, _, ok := s.add(alice, false); ok {
		t.Error("the second is admitted at once")
	}
	if _, evicted, ok := s.add(alice, false); !ok || evicted == nil {
		t.Error("the third is not swapped a while later")
	}
	s.fill(bob, 2, false)
	for range clearFrom - 2 {
		s.now -= clearEvery
		if _, evicted, ok := s.add(bob, false); !ok || evicted.account != alice {
			t.Error("one with few connections is refused")
		}
	}
}

// TestTableHoldsItsLimits: whatever comes and goes, the limits hold, root is admitted while others
// have anything, and the counts are right.
func TestTableHoldsItsLimits(t *testing.T) {
	l := limits{all: 12, ordinary: 8, each: 5, swap: true}
	s := &seats{t: t, tab: newTable(l)}
	random := rand.New(rand.NewPCG(1, 2))
	open := make(map[*entry]bool)
	for range 20000 {
		if random.IntN(3) == 0 {
			for e := range open {
				s.tab.leave(e)
				s.tab.leave(e) // http.Server closes more than once
				delete(open, e)
				break
			}
			continue
		}
		who := []account{root, admin, alice, bob, faraway}[random.IntN(5)]
		e, evicted, ok := s.add(who, random.IntN(2) == 0)
		if evicted != nil && !open[evicted] {
			t.Fatal("one that is not open was closed")
		}
		delete(open, evicted)
		if ok {
			open[e] = true
		}
		ordinary, each := 0, make(map[account]int)
		for e := range open {
			each[e.account]++
			if !e.account.privileged {
				ordinary++
			}
		}
		if !ok && who.privileged && ordinary > 0 {
			t.Fatalf("%s was refused while others have %d", who, ordinary)
		}
		if len(open) > l.all || ordinary > l.ordinary || each[alice] > l.each || s.tab.size() != len(open) ||
			s.tab.ordinary != ordinary || len(s.tab.open) != len(each) {
			t.Fatalf("%d are open, %d of ordinary callers, by account %v; the table has %d and %d", len(open), ordinary,
				each,
				s.tab.size(), s.tab.ordinary)
		}
	}
}

func TestAccounts(t *testing.T) {
	for _, c := range []struct {
		addr string
		want string
	}{
		{"192.0.2.7", "192.0.2.7"}, {"::ffff:192.0.2.7", "192.0.2.7"}, {"2001:db8::1:2:3:4", "2001:db8::/64"},
		{"fe80::1%eth0", "fe80::/64"},
	} {
		if got := addressAccount(netip.MustParseAddr(c.addr)); got.String() != c.want {
			t.Errorf("%s counts for %s, want %s", c.addr, got, c.want)
		}
	}
	for a, want := range map[account]string{alice: "uid:1000", {}: "unknown", {kind: accountOthers}: "others"} {
		if a.String() != want {
			t.Errorf("%+v is %s", a, a)
		}
	}
}

func TestRepeats(t *testing.T) {
	var r repeats
	now := time.Unix(1000, 0)
	at := func(after time.Duration) time.Time { return now.Add(after) }
	key := repeatKey{subjectDenied, alice}
	if n, log := r.pass(key, now); !log || n != 1 {
		t.Errorf("the first: %d %t", n, log)
	}
	for range 1000 {
		if _, log := r.pass(key, at(time.Second)); log {
			t.Fatal("a second line in the same minute")
		}
	}
	if n, log := r.pass(repeatKey{subjectDenied, bob}, at(time.Second)); !log || n != 1 {
		t.Errorf("another caller: %d %t", n, log)
	}
	if n, log := r.pass(repeatKey{subjectStreams, alice}, at(time.Second)); !log || n != 1 {
		t.Errorf("another subject: %d %t", n, log)
	}
	if n, log := r.pass(key, at(repeatEvery)); !log || n != 1001 {
		t.Errorf("a minute later: %d %t", n, log)
	}
	for range 5 {
		r.pass(key, at(repeatEvery+time.Second))
	}
	if due := r.due(at(2*repeatEvery - 1)); due[key] != 0 {
		t.Errorf("due early: %v", due)
	}
	if due := r.due(at(2 * repeatEvery)); due[key] != 5 || len(due) != 1 {
		t.Errorf("due: %v", due)
	}
	if due := r.due(at(4 * repeatEvery)); len(due) != 0 || len(r.known) != 0 {
		t.Errorf("due again: %v, %d callers kept", due, len(r.known))
	}
	t.Run("callers_without_end_share_a_line", func(t *testing.T) {
		var r repeats
		lines := 0
		for i := range 10000 {
			if _, log := r.pass(repeatKey{subjectDenied, account{kind: accountUser, uid: uint32(i)}}, now); log {
				lines++
			}
		}
		if lines != repeatKeys+1 || len(r.known) != repeatKeys+1 {
			t.Errorf("%d lines, %d callers kept", lines, len(r.known))
		}
	})
}
