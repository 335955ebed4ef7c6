package rollout

import (
	"fmt"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Side is what is known of one side of a place.
type Side struct {
	Known    bool // there is such a replica at all, running or not
	Exists   bool // PID 1 has a unit of it, whatever became of its process
	Prepared bool // its version is staged, verified and prepared
	Ready    bool
	Sick     bool // its gate passed, and its probes fail past their threshold
	Drained  bool // nothing is held any more, also since its process has ended
	Overdue  bool // something is still held, and the drain's deadline has passed
	Held     int  // leases that were held then; 0 with Overdue: the engine still worked without any
	Failed   *registry.Failure
}

// Fit is whether the new engine finds enough memory.
type Fit int

// The answers.
const (
	FitUnknown Fit = iota // it has not been asked yet
	FitBeside             // while the old one runs
	FitAfter              // once the old one is gone
	FitNever
)

// Facts are what is known of the place that is worked on. Leaves is the engine that is to go, Comes the one that is to take over.
type Facts struct {
	Leaves, Comes Side
	Fit           Fit
	Short         *registry.Failure // with FitNever: what is missing
	Parked        bool              // an operator drained the pool: everything of it is stopped
	Before        *registry.Failure // why a replica that was replaced already does not serve any more; nil: all do
}

// step is a row of the table: the first of the phase whose When holds decides.
type step struct {
	Phase  Phase
	When   string // in words, for the printed table
	Holds  func(r Record, f Facts) bool
	To     Phase  // "": the next place, or the end
	Reason Reason // goes back for this
}

var steps = []step{
	{Preparing, "it goes back, and the pool was drained: nothing runs any more", undone, "", ""},
	{Preparing, "a replica that was replaced before fails", before, Reverting, Health},
	{Preparing, "the new version cannot be staged or prepared", func(_ Record, f Facts) bool { return f.Comes.Failed != nil }, Reverting, Staging},
	{Preparing, "it cannot fit", func(_ Record, f Facts) bool { return f.Comes.Prepared && f.Fit == FitNever }, Reverting, TooBig},
	{Preparing, "prepared, and both fit", func(_ Record, f Facts) bool { return f.Comes.Prepared && f.Fit == FitBeside }, Beside, ""},
	{Preparing, "prepared, and only one fits", func(_ Record, f Facts) bool { return f.Comes.Prepared && f.Fit == FitAfter }, Yielding, ""},

	{Beside, "it goes back, and the pool was drained: nothing runs any more", undone, "", ""},
	{Beside, "a replica that was replaced before fails", before, Reverting, Health},
	{Beside, "the new engine fails", func(_ Record, f Facts) bool { return f.Comes.Failed != nil }, Reverting, Load},
	{Beside, "the new engine passes its gate and then does not answer", func(_ Record, f Facts) bool { return f.Comes.Sick }, Reverting, Health},
	{Beside, "the new engine is ready", func(_ Record, f Facts) bool { return f.Comes.Ready }, Handing, ""},

	{Handing, "it goes back, and the pool was drained: nothing runs any more", undone, "", ""},
	{Handing, "the new engine fails, or is gone", func(_ Record, f Facts) bool { return f.Comes.lost() || !f.Comes.Exists }, Reverting, Health},
	{Handing, "the old engine is empty, or gone", func(_ Record, f Facts) bool { return f.Comes.Ready && (f.Leaves.Drained || !f.Leaves.Exists) }, Leaving, ""},
	{Handing, "work is still held at the deadline", func(_ Record, f Facts) bool { return f.Leaves.Overdue }, Reverting, DrainTimeout},

	{Leaving, "the new engine fails before the old one is gone", func(r Record, f Facts) bool { return !r.Undo && f.Leaves.Exists && f.Comes.lost() }, Reverting, Health},
	{Leaving, "the old engine is gone", func(_ Record, f Facts) bool { return !f.Leaves.Exists }, "", ""},

	{Yielding, "the old engine is empty, or gone", func(_ Record, f Facts) bool { return f.Leaves.Drained || !f.Leaves.Exists }, Ending, ""},
	{Yielding, "work is still held at the deadline", func(_ Record, f Facts) bool { return f.Leaves.Overdue }, Reverting, DrainTimeout},

	{Ending, "the old engine is gone", func(_ Record, f Facts) bool { return !f.Leaves.Exists }, After, ""},

	{After, "it goes back, and the pool was drained: nothing runs any more", undone, "", ""},
	{After, "the new engine fails", func(_ Record, f Facts) bool { return f.Comes.Failed != nil }, Dropping, Load},
	{After, "the new engine passes its gate and then does not answer", func(_ Record, f Facts) bool { return f.Comes.Sick }, Dropping, Health},
	{After, "the new engine is ready", func(_ Record, f Facts) bool { return f.Comes.Ready }, "", ""},

	{Dropping, "the new engine is gone", func(_ Record, f Facts) bool { return !f.Comes.Exists }, Reverting, ""},

	{Reverting, "the new engine is gone", func(_ Record, f Facts) bool { return !f.Comes.Exists }, "", ""},
}

// undone: a drained pool has nothing left to go back from. Which version serves after its resume is told by the end of the reload.
func undone(r Record, f Facts) bool {
	return r.Undo && f.Parked && !f.Leaves.Exists && !f.Comes.Exists
}

// before: all or nothing holds for what was replaced already, too.
func before(r Record, f Facts) bool { return !r.Undo && f.Before != nil }

// lost reports whether the engine does not serve any more by its own doing.
func (s Side) lost() bool { return s.Failed != nil || s.Sick }

// Step is what comes next.
type Step struct {
	Record Record
	Moved  bool // the record is another one: write it down before its orders are carried out
	Done   bool // nothing is left to do: Record.Back tells whether the former version is in force
}

// Next returns the step that follows from the record and what is known now; the record as it was where nothing follows. It is pure.
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

// unknown turns a reload around whose phase another release has written: the former version is the one that is known to have served.
func unknown(r Record) Record {
	switch {
	case r.Undo:
		r.Phase = Preparing
	case r.Back():
		r.Phase = Reverting
	default:
		f := registry.Fail(registry.CodeReloadCancelled, fmt.Sprintf("the phase %q of the reload is not known to this release", r.Phase), "Reload the pool again if it is still meant.")
		r.Reason, r.Failure, r.Phase = Cancelled, f, Reverting
	}
	return r
}

// failed turns a reload around. One that goes back already is not turned again: what it goes back to is given to the ordinary supervision of
// its pool, which starts it until it runs.
func failed(r Record, why Reason, f Facts) Record {
	switch {
	case r.Undo:
		r.Phase = Leaving
		return r
	case r.Back():
		r.Phase = Reverting // it was to be undone beside an engine that has failed since
		return r
	}
	cause := f.Comes.Failed
	switch {
	case f.Before != nil && (r.Phase == Preparing || r.Phase == Beside): // which is looked at before the new engine
		cause = f.Before
	case cause != nil:
	case why == DrainTimeout:
		cause = registry.Fail(registry.CodeDrainTimeout, stillHeld(f.Leaves.Held)+" at the drain deadline, and not cut", "Give the reload a later deadline, or let the work end first.")
	case why == TooBig:
		cause = f.Short
	}
	if cause == nil {
		cause = registry.Fail(registry.CodeHealthFailed, "the new engine does not answer its health probe", "Read its log.")
	}
	back := r.Cancel(why, cause)
	if back.Phase == Leaving {
		back.Phase = Reverting // the new engine is of no use: the old one is kept, where it still runs
	}
	return back
}

// stillHeld says what kept an engine from leaving.
func stillHeld(leases int) string {
	switch leases {
	case 0:
		return "requests were still under way"
	case 1:
		return "1 lease was still held"
	}
	return fmt.Sprintf("%d leases were still held", leases)
}

// onward begins the next place. A reload that goes back undoes the places before this one, in the opposite order; and this one as well,
// where it was cancelled when its new engine had taken over.
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
