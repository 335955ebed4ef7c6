package health

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// finding is one fault of a GPU, kept until its rule clears it.
type finding struct {
	cause   classify.Verdict
	first   time.Time // when it was recorded first
	at      time.Time // when it was recorded last
	from    time.Time // only samples taken later count
	session string    // NVML's session at that time; empty before the first sample
	gone    bool      // the GPU was lost or absent in a sample since
	run     run
}

// run is a series of clean samples.
type run struct {
	n           int
	first, last time.Time
	none        bool // the recovery action was known to be none in each of them
}

// add adds a clean sample to the run.
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

// clearing is a rule of the table: when a finding is cleared.
type clearing struct {
	Health  Health
	Factual bool   // found in a sample, not in a report
	Text    bool   // by a line of the kernel's log alone
	Entered string // in words, for the printed table
	Cleared string
	// met reports whether a finding that had its clean re-probe is cleared.
	met func(m *finding, session string) bool
}

// clearings is the table. The first matching row is a finding's rule.
var clearings = []clearing{
	{Degraded, false, false, "a verdict of class degraded",
		"a clean re-probe, and ten minutes without another such verdict",
		func(m *finding, _ string) bool { return m.run.last.Sub(m.at) >= quiet }},
	{Degraded, true, false, "seen in a sample: another error of NVML, row remapping pending or failed, recovery action drain P2P",
		"a clean re-probe without it",
		func(*finding, string) bool { return true }},
	{Reset, false, false, "a verdict of class reset",
		"a clean re-probe in which the driver reports the recovery action none; if it reports no action at all, one in a new session of NVML or after the GPU was lost or absent",
		func(m *finding, session string) bool { return m.run.none || m.renewed(session) }},
	{Reset, true, false, "seen in a sample: RESET_REQUIRED, recovery action reset or drain and reset",
		"a clean re-probe without it",
		func(*finding, string) bool { return true }},
	{Degraded, false, true, "a line of the kernel's log of class degraded that names the GPU, while NVML does not answer for it for 10 seconds, or returns an error",
		"a clean re-probe",
		func(*finding, string) bool { return true }},
	{Reset, false, true, "a line of the kernel's log of class reset or host that names the GPU, while NVML does not answer for it for 10 seconds, or returns an error",
		"a clean re-probe",
		func(*finding, string) bool { return true }},
	{Lost, true, false, "seen in a sample: GPU_IS_LOST, or a GPU that was there is missing",
		"a clean re-probe: it answers again",
		func(*finding, string) bool { return true }},
	// A GPU that fell off the bus returns only after a new enumeration, which NVML shows as a
	// return from lost or in a new session; a recovery action `none` from a driver that has just
	// lost the GPU proves nothing.
	{Host, false, false, "a verdict of class host: all GPUs of the host if its scope is the host",
		"a clean re-probe of the GPU that caused it (of all GPUs if none is named), in a new session of NVML or after it was lost or absent; a reboot is a new daemon",
		func(m *finding, session string) bool { return m.renewed(session) }},
	{Host, true, false, "seen in a sample: recovery action reboot",
		"a clean re-probe without it",
		func(*finding, string) bool { return true }},
}

// renewed reports whether the GPU has been lost or reinitialised since the finding.
func (m *finding) renewed(session string) bool {
	return m.gone || m.session != "" && session != "" && session != m.session
}

// interrupt restarts the clean re-probe: another fault was reported at that time.
func (m *finding) interrupt(at time.Time) {
	m.run = run{}
	if at.After(m.from) {
		m.from = at
	}
}

// cleared reports whether the finding's rule is met.
func (m *finding) cleared(key findingKey, session string) bool {
	if !m.run.clean() {
		return false
	}
	for _, c := range clearings {
		if c.Health == key.health && c.Factual == key.factual && c.Text == key.text {
			return c.met(m, session)
		}
	}
	return false
}

// probe evaluates a sample for the finding. d is nil if the GPU is missing from the sample.
func (m *finding) probe(s *nvml.Snapshot, d *nvml.Device, factual bool) {
	if !s.Taken.After(m.from) {
		return // taken before the verdict, delivered later
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

// clean reports whether a sample of a GPU shows no fault. A degraded fact blocks only factual
// findings: otherwise a GPU with a row that waits for the next reset would keep an older report for
// ever.
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
