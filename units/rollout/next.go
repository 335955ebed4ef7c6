package rollout

import "github.com/pool-managerd/pool-managerd/registry"

// Side is what is known of one side of a place.
type Side struct {
	Known    bool // there is such a replica at all, running or not
	Exists   bool // PID 1 has a unit of it, whatever became of its process
	Prepared bool // its version is staged, verified and prepared
	Ready    bool
	Sick     bool // its gate passed, and its probes fail past their threshold
	Drained  bool // nothing is held any more
	Overdue  bool // something is still held, and the drain's deadline has passed
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
}

// step is a row of the table: the first of the phase whose When holds decides.
type step struct {
	Phase  Phase
	When   string // in words, for the printed table
	Holds  func(f Facts) bool
	To     Phase  // "": the next place, or the end
	Reason Reason // goes back for this
}

var steps = []step{
	{Preparing, "the new version cannot be staged or prepared", func(f Facts) bool { return f.Comes.Failed != nil }, Reverting, Staging},
	{Preparing, "it cannot fit", func(f Facts) bool { return f.Comes.Prepared && f.Fit == FitNever }, Reverting, TooBig},
	{Preparing, "prepared, and both fit", func(f Facts) bool { return f.Comes.Prepared && f.Fit == FitBeside }, Beside, ""},
	{Preparing, "prepared, and only one fits", func(f Facts) bool { return f.Comes.Prepared && f.Fit == FitAfter }, Yielding, ""},

	{Beside, "the new engine fails", func(f Facts) bool { return f.Comes.Failed != nil }, Reverting, Load},
	{Beside, "the new engine passes its gate and then does not answer", func(f Facts) bool { return f.Comes.Sick }, Reverting, Health},
	{Beside, "the new engine is ready", func(f Facts) bool { return f.Comes.Ready }, Handing, ""},

	{Handing, "the new engine fails", func(f Facts) bool { return f.Comes.Failed != nil || f.Comes.Sick }, Reverting, Health},
	{Handing, "the old engine is empty, or gone", func(f Facts) bool { return f.Comes.Ready && (f.Leaves.Drained || !f.Leaves.Exists) }, Leaving, ""},
	{Handing, "work is still held at the deadline", func(f Facts) bool { return f.Leaves.Overdue }, Reverting, DrainTimeout},

	{Leaving, "the old engine is gone", func(f Facts) bool { return !f.Leaves.Exists }, "", ""},

	{Yielding, "the old engine is empty, or gone", func(f Facts) bool { return f.Leaves.Drained || !f.Leaves.Exists }, Ending, ""},
	{Yielding, "work is still held at the deadline", func(f Facts) bool { return f.Leaves.Overdue }, Reverting, DrainTimeout},

	{Ending, "the old engine is gone", func(f Facts) bool { return !f.Leaves.Exists }, After, ""},

	{After, "the new engine fails", func(f Facts) bool { return f.Comes.Failed != nil }, Reverting, Load},
	{After, "the new engine passes its gate and then does not answer", func(f Facts) bool { return f.Comes.Sick }, Reverting, Health},
	{After, "the new engine is ready", func(f Facts) bool { return f.Comes.Ready }, "", ""},

	{Reverting, "the new engine is gone", func(f Facts) bool { return !f.Comes.Exists }, "", ""},
}

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
	for _, s := range steps {
		if s.Phase != r.Phase || !s.Holds(f) {
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

// failed turns a reload around. One that goes back already is not turned again: what it goes back to is given to the ordinary supervision of
// its pool, which starts it until it runs.
func failed(r Record, why Reason, f Facts) Record {
	if r.Undo {
		r.Phase = Leaving
		return r
	}
	cause := f.Comes.Failed
	switch {
	case cause != nil:
	case why == DrainTimeout:
		cause = registry.Fail(registry.CodeDrainTimeout, "work was still held at the drain deadline", "Give the reload a later deadline, or let the work end first.")
	case why == TooBig:
		cause = f.Short
	}
	if cause == nil {
		cause = registry.Fail(registry.CodeHealthFailed, "the new engine does not answer its health probe", "Read its log.")
	}
	return r.Cancel(why, cause)
}

// onward begins the next place. A reload that goes back undoes the places before this one, in the opposite order.
func onward(r Record) Step {
	switch {
	case !r.Back():
		r.Place++
		r.Phase = Preparing
		return Step{Record: r, Moved: true, Done: r.Place >= r.Places()}
	default:
		r.Undo = true
		r.Place--
		r.Phase = Preparing
		return Step{Record: r, Moved: true, Done: r.Place < 0}
	}
}
