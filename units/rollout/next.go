package rollout

import (
	"fmt"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Side is what is known of one side (blue or green) of a slot index.
type Side struct {
	Known    bool // there is such a replica, running or not
	Exists   bool // PID 1 has its unit, with or without a process
	Prepared bool // its version is staged, verified and prepared
	Ready    bool
	Sick     bool // its gate passed, but its probes fail past the threshold
	Drained  bool // no work is left, or its process has ended
	Overdue  bool // work is left, and the drain's deadline has passed
	Held     int  // leases held at the deadline; 0 with Overdue: the engine had requests without a lease
	Failed   *registry.Failure
}

// Fit is whether there is enough memory for the new engine.
type Fit int

// The answers.
const (
	FitUnknown Fit = iota // not checked yet
	FitBeside             // there is while the old one runs
	FitAfter              // there is once the old one has stopped
	FitNever
)

// Facts are what is known of the current slot index. Leaves is the engine that has to stop, Comes
// the one that replaces it.
type Facts struct {
	Leaves, Comes Side
	Fit           Fit
	Short         *registry.Failure // with FitNever: what is missing
	Parked        bool              // an operator drained the pool: all its engines stop
	Before        *registry.Failure // why a replica that was replaced earlier no longer serves; nil: all do
}

// step is a row of the table: the first row of the phase whose condition holds decides.
type step struct {
	Phase  Phase
	When   string // in words, for the printed table
	Holds  func(r Record, f Facts) bool
	To     Phase  // "": the next slot index, or the end
	Reason Reason // set where the step rolls back
}

var steps = []step{
	{Preparing, "it rolls back, and the pool was drained: nothing runs", undone, "", ""},
	{Preparing, "a replica that was replaced earlier fails", before, Reverting, Health},
	{Preparing, "the new version cannot be staged or prepared", func(_ Record, f Facts) bool { return f.Comes.Failed != nil }, Reverting, Staging},
	{Preparing, "it does not fit in the memory", func(_ Record, f Facts) bool { return f.Comes.Prepared && f.Fit == FitNever }, Reverting, TooBig},
	{Preparing, "prepared, and both fit in the memory", func(_ Record, f Facts) bool { return f.Comes.Prepared && f.Fit == FitBeside }, Beside, ""},
	{Preparing, "prepared, and only one fits in the memory", func(_ Record, f Facts) bool { return f.Comes.Prepared && f.Fit == FitAfter }, Yielding, ""},

	{Beside, "it rolls back, and the pool was drained: nothing runs", undone, "", ""},
	{Beside, "a replica that was replaced earlier fails", before, Reverting, Health},
	{Beside, "the new engine fails", func(_ Record, f Facts) bool { return f.Comes.Failed != nil }, Reverting, Load},
	{Beside, "the new engine passes its gate, but its health probe fails", func(_ Record, f Facts) bool { return f.Comes.Sick }, Reverting, Health},
	{Beside, "the new engine is ready", func(_ Record, f Facts) bool { return f.Comes.Ready }, Handing, ""},

	{Handing, "it rolls back, and the pool was drained: nothing runs", undone, "", ""},
	{Handing, "the new engine fails or stops", func(_ Record, f Facts) bool { return f.Comes.lost() || !f.Comes.Exists }, Reverting, Health},
	{Handing, "the old engine has no work left, or has stopped", func(_ Record, f Facts) bool { return f.Comes.Ready && (f.Leaves.Drained || !f.Leaves.Exists) }, Leaving, ""},
	{Handing, "work is left at the deadline", func(_ Record, f Facts) bool { return f.Leaves.Overdue }, Reverting, DrainTimeout},

	{Leaving, "the new engine fails before the old one has stopped", func(r Record, f Facts) bool { return !r.Undo && f.Leaves.Exists && f.Comes.lost() }, Reverting, Health},
	{Leaving, "the old engine has stopped", func(_ Record, f Facts) bool { return !f.Leaves.Exists }, "", ""},

	{Yielding, "the old engine has no work left, or has stopped", func(_ Record, f Facts) bool { return f.Leaves.Drained || !f.Leaves.Exists }, Ending, ""},
	{Yielding, "work is left at the deadline", func(_ Record, f Facts) bool { return f.Leaves.Overdue }, Reverting, DrainTimeout},

	{Ending, "the old engine has stopped", func(_ Record, f Facts) bool { return !f.Leaves.Exists }, After, ""},

	{After, "it rolls back, and the pool was drained: nothing runs", undone, "", ""},
	{After, "the new engine fails", func(_ Record, f Facts) bool { return f.Comes.Failed != nil }, Dropping, Load},
	{After, "the new engine passes its gate, but its health probe fails", func(_ Record, f Facts) bool { return f.Comes.Sick }, Dropping, Health},
	{After, "the new engine is ready", func(_ Record, f Facts) bool { return f.Comes.Ready }, "", ""},

	{Dropping, "the new engine has stopped", func(_ Record, f Facts) bool { return !f.Comes.Exists }, Reverting, ""},

	{Reverting, "the new engine has stopped", func(_ Record, f Facts) bool { return !f.Comes.Exists }, "", ""},
}

// undone reports whether nothing is left to roll back, since the pool was drained. The end of the
// reload decides which version its resume starts.
func undone(r Record, f Facts) bool {
	return r.Undo && f.Parked && !f.Leaves.Exists && !f.Comes.Exists
}

// before reports whether a replica that was replaced earlier fails: "all or nothing" includes
// those.
func before(r Record, f Facts) bool { return !r.Undo && f.Before != nil }

// lost reports whether the engine failed and no longer serves.
func (s Side) lost() bool { return s.Failed != nil || s.Sick }

// Step is what comes next.
type Step struct {
	Record Record
	Moved  bool // the record changed: write it to disk before its orders are carried out
	Done   bool // the reload is over; Record.Back reports whether the former version is in force
}

// Next returns the step that follows from the record and the facts, or the unchanged record where
// none does. It is pure.
func Next(r Record, f Facts) Step {
	if r.Place < 0 || r.Place >= r.Places() {
		return Step{Record: r, Moved: true, Done: true}
	}
	if !slices.Contains(Phases(), r.Phase) {
		return Step{Record: unknown(r), Moved: true}
	}
	for _, s := range steps {
		if s.Phase != r.Phase || !s.Holds(r, f) {
			continue
		}
		if s.Reason != "" {
			return Step{Record: failed(r, s.Reason, f), Moved: true}
		}
		if s.To != "" {
			r.Phase = s.To
			return Step{Record: r, Moved: true}
		}
		return onward(r)
	}
	return Step{Record: r}
}

// unknown rolls back a reload whose phase another release wrote: the former version is known to
// have served.
func unknown(r Record) Record {
	switch {
	case r.Undo:
		r.Phase = Preparing
	case r.Back():
		r.Phase = Reverting
	default:
		f := registry.Fail(registry.CodeReloadCancelled,
			fmt.Sprintf("this release does not know the phase %q of the reload", r.Phase),
			"Reload the pool again if you still want the new version.")
		r.Reason, r.Failure, r.Phase = Cancelled, f, Reverting
	}
	return r
}

// failed rolls a reload back. One that rolls back already continues: the former version is left to
// the ordinary supervision of its pool, which starts it until it runs.
func failed(r Record, why Reason, f Facts) Record {
	switch {
	case r.Undo:
		r.Phase = Leaving
		return r
	case r.Back():
		r.Phase = Reverting // the engine beside which it was to be undone has failed
		return r
	}
	cause := f.Comes.Failed
	switch {
	case f.Before != nil && (r.Phase == Preparing || r.Phase == Beside): // their tables check it first
		cause = f.Before
	case cause != nil:
	case why == DrainTimeout:
		cause = registry.Fail(registry.CodeDrainTimeout, stillHeld(f.Leaves.Held)+
			" at the drain deadline; nothing was cut",
			"Give the reload a longer deadline, or wait until the work has ended.")
	case why == TooBig:
		cause = f.Short
	}
	if cause == nil {
		cause = registry.Fail(registry.CodeHealthFailed, "the new engine does not answer its health probe",
			"Read its log.")
	}
	back := r.Cancel(why, cause)
	if back.Phase == Leaving {
		back.Phase = Reverting // the new engine failed: keep the old one if it still runs
	}
	return back
}

// stillHeld describes the work that was left at the deadline.
func stillHeld(leases int) string {
	switch leases {
	case 0:
		return "requests were still under way"
	case 1:
		return "1 lease was still held"
	}
	return fmt.Sprintf("%d leases were still held", leases)
}

// onward begins the next slot index. A rollback undoes the earlier ones in the opposite order, and
// this one as well if it was cancelled after its new engine had taken over.
func onward(r Record) Step {
	switch {
	case !r.Back():
		r.Place++
	case !r.Undo && r.Phase == Leaving:
		r.Undo = true
	default:
		r.Undo = true
		r.Place--
	}
	r.Phase = Preparing
	return Step{Record: r, Moved: true, Done: r.Place < 0 || r.Place >= r.Places()}
}
