package health

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// mark is one thing that is held against a GPU, until its rule takes it away.
type mark struct {
	cause   classify.Verdict
	first   time.Time // when it was entered
	at      time.Time // when it was said last
	from    time.Time // only samples taken later count
	session string    // NVML's session then; empty before the first sample
	gone    bool      // the GPU was lost or absent in a sample since
	run     run
}

// run is a row of clean samples.
type run struct {
	n           int
	first, last time.Time
	none        bool // the recovery action was known to be none in each of them
}

// add takes a clean sample of that time into the run.
func (r *run) add(taken time.Time, none bool) {
	if r.n == 0 {
		r.first, r.none = taken, true
	} else if !taken.After(r.last) {
		return // the same sample again, or an older one
	}
	r.n++
	r.last = taken
	r.none = r.none && none
}

func (r *run) clean() bool { return r.n >= cleanProbes && r.last.Sub(r.first) >= cleanSpan }

// clearing is a rule of the table: what must be seen before a mark goes.
type clearing struct {
	Health  Health
	Factual bool   // the sample itself said it, not a report
	Entered string // in words, for the printed table
	Cleared string
	// holds is asked of a mark that has had its clean re-probe.
	holds func(m *mark, session string) bool
}

// clearings is the table. The first row that fits a mark is its rule.
var clearings = []clearing{
	{Degraded, false, "a verdict of class degraded",
		"a clean re-probe, and ten minutes without another such verdict",
		func(m *mark, _ string) bool { return m.run.last.Sub(m.at) >= quiet }},
	{Degraded, true, "a sample says so: another error of NVML, row remapping pending or failed, recovery action drain P2P",
		"a clean re-probe without it",
		func(*mark, string) bool { return true }},
	{Reset, false, "a verdict of class reset",
		"a clean re-probe in which the driver reports the recovery action none; where it reports none at all, one in a new session of NVML or after the GPU was lost or absent",
		func(m *mark, session string) bool { return m.run.none || m.renewed(session) }},
	{Reset, true, "a sample says so: RESET_REQUIRED, recovery action reset or drain and reset",
		"a clean re-probe without it",
		func(*mark, string) bool { return true }},
	{Lost, true, "a sample says so: GPU_IS_LOST, or a GPU that was there is missing",
		"a clean re-probe: it answers again",
		func(*mark, string) bool { return true }},
	// What fell off the bus comes back only by a new enumeration, which NVML sees as a return from
	// lost or in a new session; a recovery action none from a driver that has just lost the GPU
	// proves nothing.
	{Host, false, "a verdict of class host: all GPUs of the host, where its scope is the host",
		"a clean re-probe of the GPU that caused it (of all, where none is named), in a new session of NVML or after it was lost or absent; a reboot is a new daemon",
		func(m *mark, session string) bool { return m.renewed(session) }},
	{Host, true, "a sample says so: recovery action reboot",
		"a clean re-probe without it",
		func(*mark, string) bool { return true }},
}

// renewed reports whether what was held against the GPU was held against a former life of it.
func (m *mark) renewed(session string) bool {
	return m.gone || m.session != "" && session != "" && session != m.session
}

// interrupt begins the clean re-probe again: something was said against the GPU at that time.
func (m *mark) interrupt(at time.Time) {
	m.run = run{}
	if at.After(m.from) {
		m.from = at
	}
}

// cleared reports whether the mark's rule is met.
func (m *mark) cleared(key markKey, session string) bool {
	if !m.run.clean() {
		return false
	}
	for _, c := range clearings {
		if c.Health == key.health && c.Factual == key.factual {
			return c.holds(m, session)
		}
	}
	return false
}

// probe takes a sample of the GPU into the mark. d is nil where the GPU is missing from it.
func (m *mark) probe(s *nvml.Snapshot, d *nvml.Device, factual bool) {
	if !s.Taken.After(m.from) {
		return // of before the verdict, only delivered later
	}
	if m.session == "" {
		m.session = s.Session
	}
	if d == nil || d.Problem != nil && d.Problem.Kind == nvml.ProblemLost {
		m.gone = true
	}
	if !clean(d, factual) {
		m.run = run{}
		return
	}
	m.run.add(s.Taken, d.Recovery == nvml.RecoveryNone)
}

// clean reports whether a sample of a GPU holds nothing against it. A degraded fact is in the way
// only of a factual mark: a GPU whose row waits for the next reset would otherwise never be free of
// an older report.
func clean(d *nvml.Device, factual bool) bool {
	if d == nil || d.Problem != nil || d.Recovery != "" && d.Recovery != nvml.RecoveryNone {
		return false
	}
	if !factual {
		return true
	}
	_, wrong := classify.Device(*d)
	return !wrong
}
