package rollout

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestWhyItRollsBack: the counted reason and the reported failure for each cause of a rollback.
func TestWhyItRollsBack(t *testing.T) {
	crashed := registry.Fail(registry.CodeEngineCrashed, "exited with status 1", "")
	before := registry.Fail(registry.CodeHealthFailed, "a.r0 does not answer", "")
	short := registry.Fail(registry.CodeInsufficientVRAM, "2 GiB are missing", "")
	runs := Side{Known: true, Exists: true, Prepared: true, Ready: true}
	failed := Side{Known: true, Exists: true, Prepared: true, Failed: crashed}
	sick := Side{Known: true, Exists: true, Prepared: true, Sick: true}
	late := func(held int) Side { return Side{Known: true, Exists: true, Overdue: true, Held: held} }
	const silent = "the new engine does not answer its health probe"
	for _, c := range []struct {
		name   string
		phase  Phase
		f      Facts
		to     Phase
		reason Reason
		code   registry.Code
		says   string
	}{
		{"staging_fails", Preparing, Facts{Leaves: runs, Comes: failed}, Reverting, Staging, crashed.Code, crashed.Message},
		{"it_cannot_fit", Preparing, Facts{Leaves: runs, Comes: Side{Prepared: true}, Fit: FitNever, Short: short}, Reverting, TooBig, short.Code, short.Message},
		{"a_replaced_one_fails_while_the_next_is_prepared", Preparing, Facts{Leaves: runs, Comes: failed, Before: before}, Reverting, Health, before.Code, before.Message},
		{"a_replaced_one_fails_while_the_next_loads", Beside, Facts{Leaves: runs, Comes: failed, Before: before}, Reverting, Health, before.Code, before.Message},
		{"the_new_one_crashes", Beside, Facts{Leaves: runs, Comes: failed}, Reverting, Load, crashed.Code, crashed.Message},
		{"the_new_one_does_not_answer", Beside, Facts{Leaves: runs, Comes: sick}, Reverting, Health, registry.CodeHealthFailed, silent},
		{"it_crashes_when_it_has_taken_over", Handing, Facts{Leaves: runs, Comes: failed, Before: before}, Reverting, Health, crashed.Code, crashed.Message},
		{"it_does_not_answer_when_it_has_taken_over", Handing, Facts{Leaves: runs, Comes: sick}, Reverting, Health, registry.CodeHealthFailed, silent},
		{"it_is_gone_when_it_has_taken_over", Handing, Facts{Leaves: runs}, Reverting, Health, registry.CodeHealthFailed, silent},
		{"work_is_held_beside", Handing, Facts{Leaves: late(2), Comes: runs}, Reverting, DrainTimeout, registry.CodeDrainTimeout,
			"2 leases were still held at the drain deadline; nothing was cut"},
		{"one_lease_is_held", Yielding, Facts{Leaves: late(1)}, Reverting, DrainTimeout, registry.CodeDrainTimeout,
			"1 lease was still held at the drain deadline; nothing was cut"},
		{"requests_are_under_way", Yielding, Facts{Leaves: late(0)}, Reverting, DrainTimeout, registry.CodeDrainTimeout,
			"requests were still under way at the drain deadline; nothing was cut"},
		{"it_crashes_alone", After, Facts{Comes: failed}, Dropping, Load, crashed.Code, crashed.Message},
		{"it_does_not_answer_alone", After, Facts{Comes: sick}, Dropping, Health, registry.CodeHealthFailed, silent},
		{"a_phase_of_another_release", "warming", Facts{Leaves: runs, Comes: runs}, Reverting, Cancelled, registry.CodeReloadCancelled,
			`this release does not know the phase "warming" of the reload`},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := Begin(pool.Pool{Replicas: 1}, pool.Pool{Replicas: 1}, []int{0}, time.Minute, time.Time{})
			rec.Phase = c.phase
			got := Next(rec, c.f).Record
			if got.Phase != c.to || got.Reason != c.reason {
				t.Errorf("%s because of %q, want %s because of %q", got.Phase, got.Reason, c.to, c.reason)
			}
			if f := got.Failure; f == nil || f.Code != c.code || f.Message != c.says {
				t.Errorf("failure %v, want %s: %s", f, c.code, c.says)
			}
		})
	}
}

// TestPhaseOfAnotherRelease: a rollback continues, from a phase that this release knows.
func TestPhaseOfAnotherRelease(t *testing.T) {
	fail := registry.Fail(registry.CodeEngineCrashed, "exited", "")
	for _, c := range []struct {
		name string
		undo bool
		want Phase
	}{{"back", false, Reverting}, {"undone", true, Preparing}} {
		t.Run(c.name, func(t *testing.T) {
			rec := Begin(pool.Pool{Replicas: 1}, pool.Pool{Replicas: 1}, []int{0}, time.Minute, time.Time{})
			rec.Phase, rec.Undo, rec.Reason, rec.Failure = "warming", c.undo, Load, fail
			if got := Next(rec, Facts{}).Record; got.Phase != c.want || got.Reason != Load || got.Failure != fail {
				t.Errorf("%+v, want %s for the first reason", got, c.want)
			}
		})
	}
}

// TestPlaceThatIsNone: a pool that has lost the replica under reload has nothing left to reload.
func TestPlaceThatIsNone(t *testing.T) {
	for _, place := range []int{-1, 1} {
		rec := Begin(pool.Pool{Replicas: 1}, pool.Pool{Replicas: 1}, []int{0}, time.Minute, time.Time{})
		rec.Place = place
		if got := Next(rec, Facts{Comes: Side{Prepared: true}, Fit: FitBeside}); !got.Done || !got.Moved ||
			got.Record.Phase != Preparing {
			t.Errorf("place %d: %+v, want the end", place, got)
		}
	}
}

// TestUndoneOfADrainedPool: the rollback ends where nothing runs and the pool was drained.
func TestUndoneOfADrainedPool(t *testing.T) {
	runs := Side{Known: true, Exists: true}
	for _, c := range []struct {
		name string
		undo bool
		f    Facts
		done bool
	}{
		{"drained", true, Facts{Parked: true}, true},
		{"not_drained", true, Facts{}, false},
		{"the_old_one_runs", true, Facts{Parked: true, Leaves: runs}, false},
		{"the_new_one_runs", true, Facts{Parked: true, Comes: runs}, false},
		{"it_does_not_go_back", false, Facts{Parked: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec := Begin(pool.Pool{Replicas: 1}, pool.Pool{Replicas: 1}, []int{0}, time.Minute, time.Time{})
			if c.undo {
				rec.Undo, rec.Reason = true, Cancelled
			}
			if got := Next(rec, c.f); got.Done != c.done {
				t.Errorf("%+v, want the end: %t", got, c.done)
			}
		})
	}
}

// TestOrdersBeyondThePlace: slot indexes that are done have the new version; later ones, and those
// of one version only, the old.
func TestOrdersBeyondThePlace(t *testing.T) {
	from, to := pool.Pool{ID: "a", Model: "file:/a", Replicas: 4}, pool.Pool{ID: "a", Model: "file:/b", Replicas: 3}
	rec := Begin(from, to, []int{0, 0, 0, 0}, time.Minute, time.Time{})
	rec.Place = 1
	for place, want := range []pool.Model{to.Model, "", from.Model, from.Model} {
		if place == rec.Place {
			continue
		}
		was, is := rec.Orders(place)
		if was.Version.Model != from.Model || is.Version.Model != to.Model {
			t.Errorf("place %d: the sides are %s and %s", place, was.Version.Model, is.Version.Model)
		}
		if was.Wanted == is.Wanted || is.Wanted != (want == to.Model) {
			t.Errorf("place %d: wanted %t and %t, want %s", place, was.Wanted, is.Wanted, want)
		}
	}
}
