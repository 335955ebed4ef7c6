package rollout

import (
	"encoding/json"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
)

// body is one side of a slot index in a simulation where anything ends at any time.
type body struct {
	prepared, exists, ready, yields bool
	held                            int // leases
	failed                          *registry.Failure
}

// chaos is a pool under a reload. Faults stop after a while, so that the reload has to end.
type chaos struct {
	t       *testing.T
	rand    *rand.Rand
	rec     Record
	written []byte // the record on disk
	done    bool
	bodies  [][2]*body // by place: of From, of To
	fit     Fit
	parked  bool
	calm    bool
	overdue bool
}

func newChaos(t *testing.T, seed uint64) *chaos {
	r := rand.New(rand.NewPCG(seed, 7))
	places := 1 + r.IntN(3)
	c := &chaos{t: t, rand: r, fit: []Fit{FitBeside, FitAfter}[r.IntN(2)]}
	from, to := pool.Pool{ID: "a", Model: "file:/a", Replicas: places},
		pool.Pool{ID: "a", Model: "file:/b", Replicas: places}
	c.rec = Begin(from, to, make([]int, places), time.Minute, time.Unix(0, 0))
	for range places {
		c.bodies = append(c.bodies, [2]*body{{prepared: true, exists: true, ready: true, held: r.IntN(3)}, {}})
	}
	c.write()
	return c
}

func (c *chaos) write() {
	text, err := json.Marshal(c.rec)
	if err != nil {
		c.t.Fatal(err)
	}
	c.written = text
}

// chance is true once in n times while there is trouble.
func (c *chaos) chance(n int) bool { return !c.calm && c.rand.IntN(n) == 0 }

func (c *chaos) parts() (leaves, comes int) {
	if c.rec.Undo {
		return 1, 0
	}
	return 0, 1
}

// turn lets the world move by chance, and asks for the next step.
func (c *chaos) turn() {
	c.trouble()
	for p := range c.bodies {
		from, to := c.rec.Orders(p)
		for side, o := range []Order{from, to} {
			if c.rand.IntN(3) > 0 { // else this order is lost, and is given again
				c.obey(p, side, o)
			}
		}
	}
	before := c.rec
	step := Next(c.rec, c.facts())
	if step.Moved {
		c.rec, c.done = step.Record, step.Done
		if c.chance(6) { // killed before the record was written: the former one goes on
			c.rec, c.done = before, false
			return
		}
		c.write()
	}
}

// trouble is what happens by itself.
func (c *chaos) trouble() {
	b := c.bodies[c.rand.IntN(len(c.bodies))][c.rand.IntN(2)]
	switch {
	case c.chance(40) && b.exists: // a crash, which PID 1 backs off from
		b.ready, b.held, b.failed = false, 0, registry.Fail(registry.CodeEngineCrashed, "exited", "")
	case c.chance(40): // stopped by hand, and forgotten
		*b = body{prepared: b.prepared}
	case c.chance(20) && b.failed != nil: // PID 1's next start
		b.failed = nil
	case c.chance(60):
		c.overdue = true
	case c.chance(150):
		c.parked = true
		c.rec = c.rec.Cancel(Cancelled, registry.Fail(registry.CodeReloadCancelled, "the pool was drained", ""))
		c.write()
	case c.chance(20): // a new manager prepares again
		var read Record
		if err := json.Unmarshal(c.written, &read); err != nil {
			c.t.Fatal(err)
		}
		c.rec = read
		for _, place := range c.bodies {
			place[0].prepared, place[1].prepared = false, false
		}
	}
	for _, place := range c.bodies {
		for _, b := range place {
			if b.held > 0 && b.yields && c.rand.IntN(3) == 0 {
				b.held--
			}
		}
	}
}

func (c *chaos) obey(place, side int, o Order) {
	b := c.bodies[place][side]
	b.yields = o.Role == reconcile.Yield || !o.Wanted || o.Role == reconcile.Suspend || c.parked
	switch {
	case !o.Wanted, o.Role == reconcile.Suspend, c.parked:
		if b.held == 0 || !b.ready || c.calm { // the deadline cuts what is no longer wanted
			*b = body{prepared: b.prepared && o.Wanted}
		}
	case !b.prepared:
		b.prepared = true
	case o.Role == reconcile.Standby:
	case !b.exists:
		b.exists, b.failed = true, nil
	case b.failed != nil:
		if c.calm {
			b.failed = nil
		}
	default:
		b.ready = true
	}
}

func (c *chaos) facts() Facts {
	leaves, comes := c.parts()
	f := Facts{Parked: c.parked, Fit: c.fit}
	if c.rec.Place < 0 || c.rec.Place >= len(c.bodies) {
		return f
	}
	side := func(b *body) Side {
		idle := b.exists && !b.ready
		return Side{Known: true, Exists: b.exists, Prepared: b.prepared, Ready: b.ready && !b.yields, Failed: b.failed,
			Drained: idle || b.exists && b.yields && b.held == 0, Overdue: c.overdue && b.yields && b.held > 0}
	}
	f.Leaves, f.Comes = side(c.bodies[c.rec.Place][leaves]), side(c.bodies[c.rec.Place][comes])
	if !f.Leaves.Exists {
		f.Fit = FitAfter
	}
	for p := range c.rec.Place {
		if fail := c.bodies[p][1].failed; fail != nil {
			f.Before = fail
		}
	}
	return f
}

// check holds at every moment, whatever happened.
func (c *chaos) check() string {
	serves := func(o Order) bool { return o.Wanted && o.Role == reconcile.Serve }
	for p := range c.bodies {
		from, to := c.rec.Orders(p)
		switch p == c.rec.Place && !c.done {
		case false:
			if from.Wanted == to.Wanted {
				return "a place that is not worked on has not one version"
			}
		default:
			if !from.Wanted && !to.Wanted {
				return "both sides are dropped"
			}
			inPlace := c.rec.Phase == Yielding || c.rec.Phase == Ending || c.rec.Phase == Dropping
			if !inPlace && !serves(from) && !serves(to) {
				return "no engine may serve"
			}
			alone := inPlace || c.rec.Phase == After
			if alone && serves(from) && serves(to) {
				return "both may run where only one fits"
			}
		}
	}
	if c.rec.Back() && c.rec.Failure == nil {
		return "it goes back and does not say why"
	}
	return ""
}

// run goes through trouble, then lets the world calm down. It returns what was wrong.
func (c *chaos) run() string {
	for i := range 4000 {
		c.calm = i >= 400
		c.turn()
		if wrong := c.check(); wrong != "" {
			return wrong
		}
		if c.done {
			return c.end()
		}
	}
	return "it does not end"
}

// end: every place is ordered to one version, the former one if and only if the reload went back.
func (c *chaos) end() string {
	for p := range c.bodies {
		from, to := c.rec.Orders(p)
		if from.Wanted != c.rec.Back() || to.Wanted == c.rec.Back() {
			return "it ended on the wrong version, or on two"
		}
	}
	return ""
}

// TestReloadsEndInChaos: crashes, stops by hand, lost orders, killed managers, drains and deadlines
// at any moment.
func TestReloadsEndInChaos(t *testing.T) {
	ends := map[Reason]int{}
	for seed := range uint64(2000) {
		c := newChaos(t, seed)
		if wrong := c.run(); wrong != "" {
			t.Fatalf("seed %d: %s: %+v, facts %+v", seed, wrong, c.rec, c.facts())
		}
		ends[c.rec.Reason]++
	}
	for _, why := range []Reason{"", Load, Health, DrainTimeout, Cancelled} {
		if ends[why] == 0 {
			t.Errorf("no reload of the simulation ended with reason %q: it tests less than it says", why)
		}
	}
}

// TestRefused: what the table must not do, whatever the facts say.
func TestRefused(t *testing.T) {
	ready := Side{Known: true, Exists: true, Prepared: true, Ready: true}
	for _, c := range []struct {
		name string
		rec  func(Record) Record
		f    Facts
		want Phase
	}{
		{"preparing/nothing_is_touched_before_the_fit_is_known", at(Preparing), Facts{Leaves: ready, Comes: Side{Prepared: true}}, Preparing},
		{"preparing/nothing_is_touched_before_it_is_prepared", at(Preparing), Facts{Leaves: ready, Fit: FitBeside}, Preparing},
		{"beside/an_empty_old_engine_is_not_enough", at(Beside), Facts{Leaves: Side{Exists: true, Drained: true}, Comes: Side{Exists: true}}, Beside},
		{"handing/the_old_one_stays_while_the_new_one_is_not_ready", at(Handing), Facts{Leaves: Side{Exists: true, Drained: true}, Comes: Side{Exists: true}}, Handing},
		{"handing/held_work_is_waited_for", at(Handing), Facts{Leaves: ready, Comes: ready}, Handing},
		{"yielding/held_work_is_waited_for", at(Yielding), Facts{Leaves: ready}, Yielding},
		{"ending/the_new_one_waits_until_the_old_one_is_gone", at(Ending), Facts{Leaves: Side{Exists: true, Drained: true}, Comes: Side{Prepared: true}}, Ending},
		{"dropping/the_old_one_waits_until_the_new_one_is_gone", at(Dropping), Facts{Comes: Side{Exists: true}}, Dropping},
		{"reverting/no_end_while_the_new_one_exists", at(Reverting), Facts{Leaves: ready, Comes: ready}, Reverting},
		{"unknown/goes_back", at("of another release"), Facts{Leaves: ready, Comes: ready}, Reverting},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := c.rec(Begin(pool.Pool{Replicas: 1}, pool.Pool{Replicas: 1}, []int{0}, time.Minute, time.Time{}))
			if got := Next(rec, c.f); got.Record.Phase != c.want || got.Done {
				t.Errorf("phase %s, done %t; want %s", got.Record.Phase, got.Done, c.want)
			}
		})
	}
}

func at(p Phase) func(Record) Record {
	return func(r Record) Record {
		r.Phase = p
		if p == Dropping || p == Reverting {
			r.Reason, r.Failure = Load, registry.Fail(registry.CodeEngineCrashed, "exited", "")
		}
		return r
	}
}

// FuzzReloadEnds lets the fuzzer choose the world.
func FuzzReloadEnds(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(mutate.Many(func(t *testing.T, seed uint64) {
		c := newChaos(t, seed)
		if wrong := c.run(); wrong != "" {
			t.Fatalf("%s: %+v", wrong, c.rec)
		}
	}))
}

// TestTurnsAround: how a reload goes back, from where it stands.
func TestTurnsAround(t *testing.T) {
	fail := registry.Fail(registry.CodeEngineCrashed, "exited", "")
	runs, gone, sick := Side{Known: true, Exists: true, Ready: true}, Side{}, Side{Exists: true, Failed: fail}
	second := func(p Phase, back, undo bool) Record {
		rec := Begin(pool.Pool{Replicas: 2}, pool.Pool{Replicas: 2}, []int{0, 0}, time.Minute, time.Time{})
		rec.Place, rec.Phase, rec.Undo = 1, p, undo
		if back {
			rec.Reason, rec.Failure = Cancelled, fail
		}
		return rec
	}
	for _, c := range []struct {
		name  string
		rec   Record
		f     Facts
		phase Phase
		place int
		undo  bool
	}{
		{"leaving/the_new_one_fails_while_the_old_one_runs", second(Leaving, false, false), Facts{Leaves: runs, Comes: sick}, Reverting, 1, false},
		{"leaving/cancelled_is_undone_from_this_place_on", second(Leaving, false, false).Cancel(Cancelled, fail), Facts{Leaves: gone, Comes: runs}, Preparing, 1, true},
		{"leaving/cancelled_and_then_the_new_one_fails", second(Leaving, true, false), Facts{Leaves: runs, Comes: sick}, Reverting, 1, false},
		{"leaving/on_the_way_back_a_failure_turns_nothing", second(Leaving, true, true), Facts{Leaves: runs, Comes: sick}, Leaving, 1, true},
		{"after/the_failed_one_leaves_first", second(After, false, false), Facts{Leaves: gone, Comes: sick}, Dropping, 1, false},
		{"after/on_the_way_back_the_place_is_given_up", second(After, true, true), Facts{Leaves: gone, Comes: sick}, Leaving, 1, true},
		{"beside/a_replaced_one_fails", second(Beside, false, false), Facts{Leaves: runs, Comes: runs, Before: fail}, Reverting, 1, false},
		{"reverting/the_places_before_are_undone", second(Reverting, true, false), Facts{Leaves: runs}, Preparing, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			step := Next(c.rec, c.f)
			got := step.Record
			if step.Moved != (got.Phase != c.rec.Phase || got.Place != c.rec.Place || got.Undo != c.rec.Undo) {
				t.Errorf("moved %t, from %+v to %+v", step.Moved, c.rec, got)
			}
			if got.Phase != c.phase || got.Place != c.place || got.Undo != c.undo {
				t.Errorf("%s, place %d, undo %t; want %s, %d, %t", got.Phase, got.Place, got.Undo, c.phase, c.place,
					c.undo)
			}
		})
	}
}
