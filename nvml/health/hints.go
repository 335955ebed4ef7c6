package health

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// patience is the time without a new sample of a GPU after which NVML counts as not answering for
// it. The owner has the GPU sampled every two seconds while a hint waits, and a helper that has
// died is back within a second.
const patience = 10 * time.Second

// Answer is what NVML reported after a line of the kernel's log named a GPU.
type Answer string

// The answers.
const (
	// Confirmed: NVML reports a fault of that GPU too. Its own report decides what follows; where
	// it gives no advice of the driver, the line's class counts for that GPU.
	Confirmed Answer = "confirmed"
	// Denied: NVML answers for the GPU, and a clean re-probe shows no fault. The line is ignored.
	Denied Answer = "denied"
	// Unanswered: NVML does not answer for the GPU. The line counts, for that GPU alone.
	Unanswered Answer = "unanswered"
	// Unlisted: the line names no GPU that NVML ever listed. It is ignored.
	Unlisted Answer = "unlisted"
)

// Answers lists every Answer.
func Answers() []Answer { return []Answer{Confirmed, Denied, Unanswered, Unlisted} }

// Resolved is a hint whose answer is known.
type Resolved struct {
	Verdict classify.Verdict // restricted to the GPU
	Answer  Answer
	Lines   int // lines that reported it
	// Fresh: it counts, and is not a second report of a fault that NVML reported.
	Fresh bool
}

// hint is a fault of a GPU that a line of the kernel's log reports. Any local user can bring text
// into that log, so a hint changes nothing by itself: NVML's next samples of the GPU decide.
type hint struct {
	verdict classify.Verdict
	at      time.Time // when it was noted
	heard   time.Time // when a new sample of the GPU came last; at: none since
	taken   time.Time // when that sample was taken
	run     run
	lines   int
}

// hintKey identifies a hint: of each GPU there is at most one of each health that it would lead to,
// whatever lines are logged.
type hintKey struct {
	device string
	health Health
}

// hear notes a verdict that is text alone. It changes no GPU's health, and does not interrupt the
// re-probe of another fault.
func (t *Tracker) hear(v classify.Verdict, at time.Time) Noted {
	n := Noted{Verdict: v}
	v = v.OfOneGPU()
	switch {
	case of(v) == OK:
		n.Fresh = t.reports.fresh(v, at)
	case v.Device == "" && v.PCI == "":
	case v.Device == "":
		t.waiting = append(t.waiting, waiting{v, at})
		if len(t.waiting) > maxWaiting {
			t.waiting = t.waiting[1:]
		}
		n.Asks = true
	case t.reports.reported(v, at): // by NVML itself: there is nothing to ask
	default:
		t.hint(v, at)
		n.Asks = true
	}
	return n
}

func (t *Tracker) hint(v classify.Verdict, at time.Time) {
	key := hintKey{v.Device, of(v)}
	if h := t.hints[key]; h != nil {
		h.lines++
		return
	}
	t.hints[key] = &hint{verdict: v, at: at, heard: at, taken: at, lines: 1}
}

// Hinted reports whether a hint waits for its answer, so that the GPUs must be sampled.
func (t *Tracker) Hinted() bool { return len(t.hints) > 0 || len(t.waiting) > 0 }

// Resolved returns the hints whose answer became known since the last call.
func (t *Tracker) Resolved() []Resolved {
	out := t.resolved
	t.resolved = nil
	return out
}

// Asked evaluates a sample that was taken because of hints, beside those that Snapshot gets in
// order: it answers hints, and nothing else.
func (t *Tracker) Asked(s *nvml.Snapshot, at time.Time) []Change {
	if s.Driver.Problem == nil {
		t.answer(s, at)
	}
	return t.settle(at)
}

// answer compares a sample with the hints.
func (t *Tracker) answer(s *nvml.Snapshot, at time.Time) {
	for _, key := range t.hintKeys() {
		h := t.hints[key]
		if !s.Taken.After(h.taken) {
			continue // taken before, or sent again
		}
		h.heard, h.taken = at, s.Taken
		switch d := device(s, key.device); {
		case d == nil || d.Problem != nil:
			t.count(key, Confirmed, at)
		case d.Recovery != "" && d.Recovery != nvml.RecoveryNone:
			t.drop(key, Confirmed) // the sample's own finding is the driver's advice
		default:
			if h.run.add(s.Taken, true); h.run.clean() {
				t.drop(key, Denied)
			}
		}
	}
}

// Expire ends the hints that NVML did not answer in time, and returns what changed.
func (t *Tracker) Expire(now time.Time) []Change {
	for _, key := range t.hintKeys() {
		if now.Sub(t.hints[key].heard) >= patience {
			t.count(key, Unanswered, now)
		}
	}
	t.waiting = slices.DeleteFunc(t.waiting, func(w waiting) bool {
		if now.Sub(w.at) < patience {
			return false
		}
		t.resolved = append(t.resolved, Resolved{Verdict: w.verdict, Answer: Unlisted, Lines: 1})
		return true
	})
	return t.settle(now)
}

// count makes a hint a finding of its GPU.
func (t *Tracker) count(key hintKey, a Answer, at time.Time) {
	h := t.hints[key]
	v := h.verdict
	if a == Unanswered {
		v.Text += ", by the kernel's log alone: NVML does not answer for the GPU"
	}
	renew(t.known(v.Device, at).findings, findingKey{health: of(v), text: true, gi: whole, ci: whole}, v, at, t.session)
	delete(t.hints, key)
	t.resolved = append(t.resolved, Resolved{Verdict: v, Answer: a, Lines: h.lines, Fresh: t.reports.fresh(v, h.at)})
}

// drop ends a hint that has no effect of its own.
func (t *Tracker) drop(key hintKey, a Answer) {
	h := t.hints[key]
	delete(t.hints, key)
	t.resolved = append(t.resolved, Resolved{Verdict: h.verdict, Answer: a, Lines: h.lines})
}

// confirm ends the hints of a fault that NVML has reported now.
func (t *Tracker) confirm(v classify.Verdict) {
	for _, key := range t.hintKeys() {
		if faultOf(t.hints[key].verdict) == faultOf(v) {
			t.drop(key, Confirmed)
		}
	}
}

// interruptHints restarts the clean re-probes of hints: there is a gap in the facts.
func (t *Tracker) interruptHints() {
	for _, h := range t.hints {
		h.run = run{}
	}
}

func (t *Tracker) hintKeys() []hintKey {
	return slices.SortedFunc(maps.Keys(t.hints), func(a, b hintKey) int {
		return cmp.Or(cmp.Compare(a.device, b.device), cmp.Compare(a.health.rank(), b.health.rank()))
	})
}
