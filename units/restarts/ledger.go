package restarts

import "slices"

// Ledger counts the runs of one replica's engine that failed, each exactly once, from what PID 1
// reports of the replica's unit. It is plain data for JSON; its zero value is a replica that never
// ran. Observations of a unit without a run do not belong here.
//
// A run is identified by its InvocationID. PID 1 increments NRestarts when it queues the job of a
// restart: after the run has failed and before the next begins, and also where its start limit then
// refuses that job. Below systemd 262 a unit at its start limit looks like one that failed and is
// not restarted: a run that is first seen there is counted with the fewest runs before it, which
// the next observation corrects. PID 1 sets NRestarts to 0 at ResetFailedUnit, and at a start by
// hand after a stop or a failure without a restart. Signals are merged on a busy host and the
// manager may be away, so runs may begin and fail between two observations: of these, only the
// counter knows.
//
// Failed never decreases and is never more than the truth. It is less only where NRestarts was
// reset after a change that no observation showed: PID 1 has no other record of it.
type Ledger struct {
	Failed   int      `json:"failed,omitempty"`   // runs that failed, in all
	Run      string   `json:"run,omitempty"`      // the newest run
	Before   int      `json:"before,omitempty"`   // runs that had failed when Run began
	Counter  int      `json:"counter,omitempty"`  // NRestarts when Run began
	Restarts int      `json:"restarts,omitempty"` // NRestarts when it was last observed
	End      End      `json:"end,omitempty"`      // how Run ended
	Former   []string `json:"former,omitempty"`   // runs before Run, the newest last

	// While Unsure, NRestarts may have been Counter+1 when Run began. Before is then Offset more
	// than that, or l.Before if this is greater.
	Unsure bool `json:"unsure,omitempty"`
	Offset int  `json:"offset,omitempty"`
}

// End is how a run ended.
type End string

// The ends.
const (
	EndNone    End = ""        // it has not ended, as far as is known
	EndFailed  End = "failed"  // it failed and counts
	EndStopped End = "stopped" // on purpose, or without a failure
)

// Phase is the state of a unit in PID 1, as far as NRestarts depends on it.
type Phase int

// The phases.
const (
	PhaseRuns   Phase = iota // the newest run has not ended, or how it ended is not known yet
	PhaseFailed              // the newest run failed, and NRestarts does not count the restart after it
	PhaseQueued              // the newest run failed, and NRestarts counts the restart after it
	PhaseDown                // the newest run is over; it failed if NRestarts counts a restart after it
	PhaseOver                // the newest run failed; whether NRestarts counts a restart after it is not known
)

// Sight is one observation of a unit: its state at one moment, which may be past.
type Sight struct {
	Run      string // InvocationID
	Restarts int    // NRestarts
	Phase    Phase
}

// Ends are the failed runs that an observation adds. The newest is not counted in Unseen.
type Ends struct {
	Unseen int    // runs whose end was not observed
	Run    string // the run whose end this observation shows; "" for none
}

// formerRuns is how many former runs are kept, so that a late observation of them changes nothing.
const formerRuns = 8

// Observe records an observation, and returns the failed runs that were not counted yet.
func (l *Ledger) Observe(s Sight) Ends {
	if s.Run == "" || slices.Contains(l.Former, s.Run) {
		return Ends{}
	}
	was := l.Failed
	began := s.began()
	switch {
	case s.Run != l.Run:
		l.next(s, began)
	case s.Restarts < l.Restarts: // reset during this run, or s is late
		switch s.Phase {
		case PhaseOver:
			began = s.Restarts // at most: fewer would count more
		case PhaseDown: // never late, and what is counted since the reset is the restart after this run
			began = max(s.Restarts-1, 0)
		}
		l.Counter, l.Unsure, l.Offset = began, false, 0
	case l.Unsure:
		l.ascertain(s, began)
	}
	l.Restarts = s.Restarts
	ended := l.End == EndNone && s.Phase != PhaseRuns
	if ended {
		l.End = l.endOf(s)
	}
	if l.End == EndStopped && !l.Unsure && s.Restarts > l.Counter {
		l.End, ended = EndFailed, true // below systemd 254 it may have been seen "dead" on its way to a restart
	}
	counted := l.Before
	if l.End == EndFailed {
		counted++
	}
	l.Failed = max(l.Failed, counted)
	e := Ends{Unseen: l.Failed - was}
	if ended && l.End == EndFailed {
		e.Unseen, e.Run = e.Unseen-1, s.Run
	}
	return e
}

// began is what NRestarts was when the run of s began, at least.
func (s Sight) began() int {
	switch s.Phase {
	case PhaseQueued:
		return s.Restarts - 1
	case PhaseOver:
		return max(s.Restarts-1, 0)
	}
	return s.Restarts
}

// ascertain corrects the count of the runs before the newest, once it is known what NRestarts was
// when that run began.
func (l *Ledger) ascertain(s Sight, began int) {
	switch {
	case s.Restarts > l.Restarts:
		began = l.Restarts // only the restart after a run is counted while it is the newest
	case s.Phase == PhaseOver || s.Phase == PhaseDown:
		return
	}
	l.Before = max(l.Before, l.Offset+began)
	l.Counter, l.Unsure, l.Offset = began, false, 0
}

// next makes another run the newest. All runs before it are over, and PID 1 restarted those that
// NRestarts counts since the last observation, l.Run at the earliest.
func (l *Ledger) next(s Sight, began int) {
	offset := l.Before - l.Counter
	switch {
	case s.Restarts < l.Restarts:
		offset = l.Before // the counter was reset since
	case l.Unsure:
		offset = l.Offset
	}
	further := offset + began - l.Before
	if s.Restarts >= l.Restarts && further == 0 && began > 0 && l.End == EndNone {
		further = 1 // a start by hand sets the counter to 0: l.Run failed, and the counter was reset
	}
	l.retire()
	l.Run, l.Counter, l.End = s.Run, began, EndNone
	l.Before = max(l.Failed, l.Before+further)
	l.Unsure, l.Offset = s.Phase == PhaseOver && s.Restarts > 0, 0
	if l.Unsure {
		l.Offset = offset
	}
}

// endOf is how the newest run ended, as s shows it.
func (l *Ledger) endOf(s Sight) End {
	if s.Phase == PhaseDown && s.Restarts <= l.Counter {
		return EndStopped
	}
	return EndFailed
}

// Stop records that the newest run is stopped on purpose: whatever its end, it did not fail.
func (l *Ledger) Stop() {
	if l.End == EndNone && l.Run != "" {
		l.End = EndStopped
	}
}

// Begin records that the unit is created again, with a counter of 0. Runs of the former unit are
// over.
func (l *Ledger) Begin() {
	l.retire()
	l.Run, l.Counter, l.Restarts, l.End = "", 0, 0, EndNone
	l.Unsure, l.Offset = false, 0
	l.Before = l.Failed
}

// retire records the newest run as a former one.
func (l *Ledger) retire() {
	if l.Run == "" {
		return
	}
	l.Former = append(slices.Clone(l.Former), l.Run)
	l.Former = l.Former[max(len(l.Former)-formerRuns, 0):]
}

// Waits reports whether the newest run has failed and no other has begun.
func (l *Ledger) Waits() bool { return l.End == EndFailed || l.Run == "" && l.Failed > 0 }

// Differs reports whether there is anything to save that other does not have.
func (l Ledger) Differs(other Ledger) bool {
	return l.Failed != other.Failed || l.Run != other.Run || l.Before != other.Before || l.Counter != other.Counter ||
		l.Restarts != other.Restarts || l.End != other.End || l.Unsure != other.Unsure ||
		len(l.Former) != len(other.Former)
}
