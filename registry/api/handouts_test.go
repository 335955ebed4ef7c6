package api

import (
	"testing"
	"time"
)

// TestHandouts: a caller has its share of the places, and one that takes a file slowly loses its
// place when another one wants it, and not before.
func TestHandouts(t *testing.T) {
	const fast, slow, stopped, young = 10 << 20, 100 << 10, 0, -1 // bytes a second
	const no = -1
	type held struct {
		who  account
		n    int
		rate int
	}
	for _, c := range []struct {
		name  string
		held  []held
		who   account
		ended int // whose file is ended for it, by its place in held; no: no one's
		ok    bool
	}{
		{"there_is_room", []held{{alice, 7, fast}, {bob, 8, fast}}, alice, no, true},
		{"there_is_room_beside_slow_ones", []held{{alice, 7, slow}, {bob, 8, stopped}}, alice, no, true},
		{"all_are_fast", []held{{alice, 8, fast}, {bob, 8, fast}}, faraway, no, false},
		{"one_has_its_share", []held{{alice, 8, fast}}, alice, no, false},
		{"root_has_no_more_than_others", []held{{root, 8, fast}}, root, no, false},
		{"one_has_its_share_and_is_slow", []held{{alice, 7, fast}, {alice, 1, slow}}, alice, 1, true},
		{"one_with_its_share_leaves_others_alone", []held{{alice, 8, fast}, {bob, 8, stopped}}, alice, no, false},
		{"a_slow_one_goes", []held{{alice, 8, fast}, {bob, 7, fast}, {bob, 1, slow}}, faraway, 2, true},
		{"a_slow_one_of_few_goes", []held{{alice, 8, fast}, {bob, 7, fast}, {admin, 1, slow}}, faraway, 2, true},
		{"the_slowest_goes", []held{{alice, 8, slow}, {bob, 7, fast}, {bob, 1, stopped}}, faraway, 2, true},
		{"one_that_has_just_begun_does_not", []held{{alice, 8, young}, {bob, 8, fast}}, faraway, no, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			var all handouts
			began := time.Now()
			of := make(map[*handout]int)
			for i, h := range c.held {
				for range h.n {
					o := &handout{account: h.who}
					if ended, ok := all.admit(o, began); !ok || ended != nil {
						t.Fatalf("%s has no room", h.who)
					}
					of[o] = i
				}
			}
			now := began.Add(12 * time.Second)
			for second := time.Second; second <= 12*time.Second; second += time.Second {
				for o, i := range of {
					o.add(int64(max(0, c.held[i].rate)), began.Add(second))
				}
			}
			for o, i := range of {
				if c.held[i].rate == young {
					o.since, o.span, o.n, o.before = now.Add(-handoutGrace/2), 0, 0, 0
				}
			}
			ended, ok := all.admit(&handout{account: c.who}, now)
			at := no
			if ended != nil {
				at = of[ended]
			}
			if ok != c.ok || at != c.ended {
				t.Errorf("admitted %t, ended one of %d", ok, at)
			}
		})
	}
}

// TestPauseOfAHandout: a caller whose disk is busy for a while keeps its place, one that has
// stopped does not.
func TestPauseOfAHandout(t *testing.T) {
	began := time.Now()
	o := &handout{since: began}
	for at := time.Duration(0); at <= handoutWindow; at += time.Second / 2 {
		o.add(10<<20, began.Add(at))
	}
	for after, slow := range map[time.Duration]bool{time.Second: false, 3 * time.Second: false,
		2 * handoutWindow: true, 10 * time.Minute: true} {
		rate, known := o.rate(began.Add(handoutWindow + after))
		if is := known && rate < slowHandout; is != slow {
			t.Errorf("after %s it takes %.0f bytes a second (%t)", after, rate, known)
		}
	}
}
