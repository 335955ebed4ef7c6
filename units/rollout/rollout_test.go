package rollout

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

var update = flag.Bool("update", false, "write the generated table")

// TestTableInDocs prints the steps; the operator's page shows them as they are in the code.
func TestTableInDocs(t *testing.T) {
	var b strings.Builder
	b.WriteString("<!-- Written by go test ./units/rollout -update; do not edit. -->\n# Steps of a reload\n\n")
	b.WriteString("A reload works on one replica at a time. In each phase the first row that holds decides; without " +
		"one, the phase continues.\n\n")
	b.WriteString("| phase | when | next | rolled back because |\n| --- | --- | --- | --- |\n")
	for _, s := range steps {
		to := "`" + string(s.To) + "`"
		if s.To == "" {
			to = "the next replica, or the end"
		}
		reason := ""
		if s.Reason != "" {
			reason = "`" + string(s.Reason) + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", s.Phase, s.When, to, reason)
	}
	golden.File(t, "../../docs/reference/reload.md", b.String(), *update)
}

// engine is one side of a slot index in a simulation that follows its orders.
type engine struct {
	prepared, exists, ready, drained bool
	failed                           *registry.Failure
}

// simulation is a pool under one reload, where steps take a random time.
type simulation struct {
	t      *testing.T
	rand   *rand.Rand
	rec    Record
	done   bool
	sides  [][2]*engine // by place: of From, of To
	stuck  int          // the place whose old engine is never empty, -1: none
	bad    int          // the place whose new engine never loads, -1: none
	missed bool         // the new version cannot be staged
	fit    Fit
}

func simulate(t *testing.T, seed uint64) *simulation {
	r := rand.New(rand.NewPCG(seed, 1))
	places := 1 + r.IntN(3)
	s := &simulation{t: t, rand: r, stuck: r.IntN(4*places) - 1, bad: r.IntN(3*places) - 1, missed: r.IntN(8) == 0,
		fit: []Fit{FitBeside, FitBeside, FitAfter, FitNever}[r.IntN(4)]}
	from, to := pool.Pool{ID: "a", Model: "file:/a", Replicas: places},
		pool.Pool{ID: "a", Model: "file:/b", Replicas: places}
	s.rec = Begin(from, to, make([]int, places), time.Minute, time.Unix(0, 0))
	for range places {
		s.sides = append(s.sides, [2]*engine{{prepared: true, exists: true, ready: true}, {}})
	}
	return s
}

// step lets the world follow its orders a little, sometimes loses the manager, and asks for the
// next step.
func (s *simulation) step() {
	place := s.rec.Place
	leaves, comes := 0, 1
	if s.rec.Undo {
		leaves, comes = 1, 0
	}
	for p := range s.sides {
		from, to := s.rec.Orders(p)
		for side, o := range []Order{from, to} {
			s.obey(p, side, o)
		}
	}
	if s.rand.IntN(3) == 0 { // a manager that was killed reads the record
		text, err := json.Marshal(s.rec)
		if err != nil {
			s.t.Fatal(err)
		}
		var read Record
		if err := json.Unmarshal(text, &read); err != nil {
			s.t.Fatal(err)
		}
		if diff := cmp.Diff(s.rec, read); diff != "" {
			s.t.Fatal(diff)
		}
		s.rec = read
	}
	if place < 0 || place >= len(s.sides) {
		s.t.Fatalf("no end at place %d", place)
	}
	f := Facts{Leaves: s.facts(place, leaves), Comes: s.facts(place, comes)}
	if s.rec.Phase == Preparing {
		f.Fit = s.fit
		if s.rec.Undo && f.Fit == FitNever {
			f.Fit = FitAfter
		}
	}
	next := Next(s.rec, f)
	s.rec, s.done = next.Record, next.Done
}

// obey lets one engine follow its order, by chance now or later.
func (s *simulation) obey(place, side int, o Order) {
	e := s.sides[place][side]
	if s.rand.IntN(2) == 0 {
		return
	}
	switch {
	case !o.Wanted || o.Role == reconcile.Suspend:
		*e = engine{prepared: e.prepared && o.Wanted}
	case o.Role == reconcile.Yield:
		e.ready = false
		e.drained = place != s.stuck
	case !e.prepared:
		if side == 1 && s.missed {
			e.failed = registry.Fail(registry.CodeModelNotFound, "no file", "")
			return
		}
		e.prepared = true
	case o.Role == reconcile.Standby:
	case !e.exists:
		if side == 1 && place == s.bad {
			e.failed = registry.Fail(registry.CodeEngineCrashed, "exited", "")
			e.exists = true
			return
		}
		e.exists, e.failed = true, nil
	case e.failed == nil:
		e.ready, e.drained = true, false
	}
}

func (s *simulation) facts(place, side int) Side {
	e := s.sides[place][side]
	return Side{Known: true, Exists: e.exists, Prepared: e.prepared, Ready: e.ready, Drained: e.drained,
		Failed:  e.failed,
		Overdue: place == s.stuck && e.exists && !e.ready}
}

// TestReloadsEnd: whatever fails or is killed, a reload ends with every slot index on one version,
// and on the new one only where nothing failed.
func TestReloadsEnd(t *testing.T) {
	for seed := range uint64(3000) {
		s := simulate(t, seed)
		for range 2000 {
			if s.done {
				break
			}
			s.step()
			if s.done {
				break
			}
			s.invariants(seed)
		}
		if !s.done {
			t.Fatalf("seed %d: no end: %+v", seed, s.rec)
		}
		places := len(s.sides)
		fails := s.missed || s.fit == FitNever || s.bad >= 0 && s.bad < places || s.stuck >= 0 && s.stuck < places
		if s.rec.Back() != fails {
			t.Fatalf("seed %d: back %t (%s), failing %t", seed, s.rec.Back(), s.rec.Reason, fails)
		}
		if fails && s.rec.Failure == nil {
			t.Fatalf("seed %d: rolled back without a failure", seed)
		}
	}
}

// invariants hold at every moment of a reload.
func (s *simulation) invariants(seed uint64) {
	for p := range s.sides {
		from, to := s.rec.Orders(p)
		if !from.Wanted && !to.Wanted {
			s.t.Fatalf("seed %d, place %d: no side is wanted: %+v", seed, p, s.rec)
		}
		stays := func(o Order) bool { return o.Wanted && o.Role == reconcile.Serve }
		if s.fit == FitBeside && !stays(from) && !stays(to) {
			s.t.Fatalf("seed %d, place %d: neither may be ready: %+v", seed, p, s.rec)
		}
		if s.fit == FitAfter && stays(from) && stays(to) {
			s.t.Fatalf("seed %d, place %d: both run although only one fits: %+v", seed, p, s.rec)
		}
	}
	if s.rec.Phase == Reverting && !s.rec.Back() {
		s.t.Fatalf("seed %d: goes back without a reason: %+v", seed, s.rec)
	}
}

func TestCancel(t *testing.T) {
	rec := Begin(pool.Pool{Replicas: 1}, pool.Pool{Replicas: 1}, []int{0}, time.Minute, time.Time{})
	first := registry.Fail(registry.CodeReloadCancelled, "the pool was drained", "")
	back := rec.Cancel(Cancelled, first)
	if back.Phase != Reverting || back.Failure != first {
		t.Errorf("cancelled: %+v", back)
	}
	if again := back.Cancel(Load, nil); again.Reason != Cancelled || again.Failure != first {
		t.Errorf("the first reason is lost: %+v", again)
	}
}

// FuzzNext: any record and any facts give an answer, and a rollback never turns forward again.
func FuzzNext(f *testing.F) {
	f.Add(uint64(0), uint8(0), false)
	f.Fuzz(mutate.Many(func(t *testing.T, bits uint64, place uint8, undo bool) {
		flag := func(n int) bool { return bits>>n&1 == 1 }
		phases := []Phase{Preparing, Beside, Handing, Leaving, Yielding, Ending, After, Dropping, Reverting, "unknown"}
		rec := Begin(pool.Pool{Replicas: 2}, pool.Pool{Replicas: 3}, []int{0, 1}, time.Minute, time.Time{})
		rec.Place, rec.Phase = int(place)-1, phases[bits>>40%10]
		if undo || rec.Phase == Reverting {
			rec.Undo, rec.Reason = undo, Load
		}
		side := func(n int) Side {
			s := Side{Known: true, Exists: flag(n), Prepared: flag(n + 1), Ready: flag(n + 2), Sick: flag(n + 3),
				Drained: flag(n + 4), Overdue: flag(n + 5)}
			if flag(n + 6) {
				s.Failed = registry.Fail(registry.CodeEngineCrashed, "exited", "")
			}
			return s
		}
		step := Next(rec, Facts{Leaves: side(0), Comes: side(8), Fit: Fit(bits >> 20 % 4)})
		if rec.Back() && !step.Record.Back() {
			t.Errorf("%+v goes on as %+v", rec, step.Record)
		}
		if step.Record.Back() && !rec.Back() && step.Record.Failure == nil {
			t.Errorf("%+v goes back without a failure", rec)
		}
		if step.Moved && !step.Done && cmp.Equal(step.Record, rec) {
			t.Errorf("a step leads to itself: %+v", rec)
		}
		if !step.Moved && !cmp.Equal(step.Record, rec) {
			t.Errorf("the record changed without a step: %+v, %+v", rec, step.Record)
		}
	}))
}
