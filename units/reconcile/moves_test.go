package reconcile

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// everyFacts calls do with each combination of facts that a decision or a state depends on. Facts
// that never matter in the same phase of a unit change together.
func everyFacts(do func(f *Facts)) {
	flags := []func(f *Facts, on bool){
		func(f *Facts, on bool) { f.GPU = failure(on) },
		func(f *Facts, on bool) { f.Fault, f.Short = failure(on), failure(on) },
		func(f *Facts, on bool) { f.Parked = on },
		func(f *Facts, on bool) { f.BreakerErr = failure(on) },
		func(f *Facts, on bool) { f.Rolling = on },
		func(f *Facts, on bool) { f.Spec.Identity += suffix(on) },
		func(f *Facts, on bool) { f.Spec.Limits += suffix(on) },
		func(f *Facts, on bool) { f.Ours, f.Revive, f.EndedItself = on, on, !on }, // of Backoff and of Exited
	}
	for base := range everyUnit() {
		for role := Serve; role <= Suspend; role++ {
			for n := range 1 << len(flags) {
				f := base
				f.Role = role
				for i, set := range flags {
					set(&f, n>>i&1 == 1)
				}
				do(&f)
				// What is refused has nothing to do with the disk.
				refused, full := f, f
				refused.Refusal, full.Disk = aFailure, aFailure
				do(&refused)
				do(&full)
			}
		}
	}
}

// everyUnit yields every wish, preparation, unit, drain and probe, and every delay of the next
// start.
func everyUnit() iter.Seq[Facts] {
	return func(yield func(Facts) bool) {
		for wish := Unwanted; wish <= Wanted; wish++ {
			for _, steps := range [][2]Step{{Pending, Pending}, {Running, Pending}, {Done, Pending}, {Done, Running},
				{Failed, Pending}, {Failed, Done}, {Done, Done}} {
				for unit := Absent; unit <= Exited; unit++ {
					f := Facts{Wish: wish, Stage: steps[0], Prepare: steps[1], Unit: unit}
					f.UnitSpec = Spec{"a", "x"}
					f.Spec = f.UnitSpec
					drains, probes := []Drainage{NotDrained}, []Probe{Unprobed}
					if unit == Active {
						drains, probes = []Drainage{NotDrained, Draining, Drained},
							[]Probe{Unprobed, Healthy, Unhealthy}
					}
					for _, f.Drain = range drains {
						for _, f.Probe = range probes {
							// none, one that is over, and one that is not
							for _, delay := range []time.Duration{0, -time.Second, time.Second} {
								f.Delayed, f.DelayedUntil = delay != 0, noon.Add(delay)
								if !yield(f) {
									return
								}
							}
						}
					}
				}
			}
		}
	}
}

func failure(on bool) *registry.Failure {
	if !on {
		return nil
	}
	return aFailure
}

var aFailure = registry.Fail(registry.CodeEngineCrashed, "failed", "")

func suffix(on bool) string {
	if on {
		return "+"
	}
	return ""
}

// TestMovesAreThePlans: over all facts, the plan asks for every legal move and no other.
func TestMovesAreThePlans(t *testing.T) {
	type pair struct {
		action Action
		in     registry.State
	}
	planned := make(map[pair]bool)
	everyFacts(func(f *Facts) {
		planned[pair{Plan(*f, noon).Action, Assess(*f).State}] = true
	})
	for p := range planned {
		if !May(p.action, p.in) {
			t.Errorf("the plan asks for %q in state %s, which is no legal move", p.action, p.in)
		}
	}
	for _, m := range moves {
		for _, in := range m.From {
			if !planned[pair{m.Action, in}] {
				t.Errorf("%q in state %s is legal, but the plan never asks for it", m.Action, in)
			}
		}
	}
}

// happening is a change of a unit without an action of ours.
type happening struct {
	name string
	when func(f *Facts) bool
	do   func(f *Facts)
}

// happenings are those that change the state.
func happenings() []happening {
	phase := func(phases ...Phase) func(*Facts) bool {
		return func(f *Facts) bool { return slices.Contains(phases, f.Unit) }
	}
	to := func(p Phase) func(*Facts) { return func(f *Facts) { f.Unit = p } }
	probed := func(before Probe) func(*Facts) bool {
		return func(f *Facts) bool { return f.Unit == Active && f.Probe == before }
	}
	return []happening{
		{"the engine's gate passes", phase(Starting), func(f *Facts) { f.Unit, f.Probe = Active, Unprobed }},
		{"the manager's probe succeeds", phase(Active), func(f *Facts) { f.Probe = Healthy }},
		{"the probe fails past its threshold", probed(Healthy), func(f *Facts) { f.Probe = Unhealthy }},
		{"the engine crashes", phase(Starting, Active), to(Backoff)},
		{"PID 1 starts it again", phase(Backoff), to(Starting)},
		{"PID 1 gives up", phase(Starting, Active, Backoff), to(Broken)},
		{"it exits with status 0, or is stopped by hand", phase(Starting, Active, Backoff), to(Exited)},
		{"a GPU of its device mask becomes unusable", func(f *Facts) bool { return f.GPU == nil }, func(f *Facts) { f.GPU = aFailure }},
		{"it has far too much on the disk", func(f *Facts) bool { return f.Disk == nil }, func(f *Facts) { f.Disk = aFailure }},
		{"its files were deleted", func(f *Facts) bool { return f.Disk != nil }, func(f *Facts) { f.Disk = nil }},
		{"the GPU is usable again", func(f *Facts) bool { return f.GPU != nil }, func(f *Facts) { f.GPU = nil }},
	}
}

// happened lists, for each happening and a wanted replica, the states before and after it, over all
// facts.
func happened() []string {
	all := happenings()
	seen := make([]map[[2]registry.State]bool, len(all))
	everyFacts(func(f *Facts) {
		if !f.startable() {
			return
		}
		from := Assess(*f).State
		for i, h := range all {
			after := *f
			if !h.when(&after) {
				continue
			}
			h.do(&after)
			if to := Assess(after).State; to != from {
				if seen[i] == nil {
					seen[i] = make(map[[2]registry.State]bool)
				}
				seen[i][[2]registry.State{from, to}] = true
			}
		}
	})
	var rows []string
	for i, h := range all {
		var pairs []string
		for p := range seen[i] {
			pairs = append(pairs, fmt.Sprintf("`%s` → `%s`", p[0], p[1]))
		}
		slices.Sort(pairs)
		rows = append(rows, fmt.Sprintf("| %s | %s |", h.name, strings.Join(pairs, ", ")))
	}
	return rows
}
