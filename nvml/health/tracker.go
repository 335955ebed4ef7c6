package health

import (
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// findingKey identifies a kind of finding. A GPU has at most one of each kind; a second one renews
// it.
type findingKey struct {
	health  Health
	factual bool // found in a sample, not in a report
	text    bool // by a line of the kernel's log alone
	gi, ci  int  // the MIG instance; whole: the whole GPU
}

const whole = -1

// gpu is one GPU that was seen or named in a report.
type gpu struct {
	findings map[findingKey]*finding
	seen     bool
	health   Health // by findings only, whatever the age of the facts
	since    time.Time
}

// place is the position of a MIG partition.
type place struct {
	gpu    string
	gi, ci int
}

// waiting is a verdict whose PCI address is in no sample yet.
type waiting struct {
	verdict classify.Verdict
	at      time.Time
}

// maxWaiting bounds the waiting verdicts; the oldest is dropped first.
const maxWaiting = 64

// Tracker tracks all GPUs of a host. It belongs to one goroutine.
type Tracker struct {
	gpus       map[string]*gpu
	partitions map[string]place
	byPCI      map[string]string
	// findings on the host as a whole, by the UUID of the GPU that caused them; "": none did
	host     map[string]*finding
	session  string
	stale    time.Time // when facts became old; zero: they are fresh
	waiting  []waiting // verdicts of lines that name a GPU which is in no sample yet
	hints    map[hintKey]*hint
	resolved []Resolved // since Resolved was called last
	reports  reports
	nameless *finding // of the worst GPU without a UUID in the last sample; nil: none
}

// New returns a Tracker that knows no GPU. start is the current time.
func New(start time.Time) *Tracker {
	return &Tracker{gpus: map[string]*gpu{}, partitions: map[string]place{}, byPCI: map[string]string{},
		host: map[string]*finding{}, hints: map[hintKey]*hint{},
		stale: start, reports: reports{}}
}

// Note records a verdict of that time. One that is text alone changes nothing: see hint.
func (t *Tracker) Note(v classify.Verdict, at time.Time) Noted {
	if v.Device == "" && v.PCI != "" {
		v.Device = t.byPCI[v.PCI]
	}
	if v.Hearsay() {
		return t.hear(v, at)
	}
	n := Noted{Verdict: v, Fresh: t.reports.fresh(v, at)}
	t.confirm(v)
	t.record(v, at)
	n.Changes = t.settle(at)
	return n
}

// record adds the verdict's finding to the GPUs or the host that it concerns.
func (t *Tracker) record(v classify.Verdict, at time.Time) {
	h := of(v)
	if !h.Usable() {
		t.interrupt(v.Device, at)
	}
	switch {
	case h == OK:
	case v.Scope == classify.ScopeHost:
		if h == Host {
			renew(t.host, v.Device, v, at, t.session)
		} else {
			t.recordAll(v, at)
		}
	case v.Device != "":
		t.recordOne(v.Device, v, at, false)
	default:
		t.recordAll(v, at)
	}
}

func (t *Tracker) recordAll(v classify.Verdict, at time.Time) {
	for uuid := range t.gpus {
		t.recordOne(uuid, v, at, false)
	}
}

func (t *Tracker) recordOne(uuid string, v classify.Verdict, at time.Time, factual bool) {
	key := findingKey{health: of(v), factual: factual, gi: whole, ci: whole}
	if v.Scope == classify.ScopePartition {
		key.gi, key.ci = number(v.GI), number(v.CI)
	}
	if key.health == Lost {
		key.factual = true // a fact from any source: an answer disproves it
	}
	renew(t.known(uuid, at).findings, key, v, at, t.session)
}

// renew records a finding, or records it again: then the clean re-probe restarts, and an earlier
// loss or reset of the GPU no longer counts.
func renew[K comparable](findings map[K]*finding, key K, v classify.Verdict, at time.Time, session string) {
	m, ok := findings[key]
	if !ok {
		findings[key] = &finding{cause: v, first: at, at: at, from: at, session: session}
		return
	}
	m.cause, m.session, m.gone = v, session, false
	m.interrupt(at)
	if at.After(m.at) {
		m.at = at
	}
}

// interrupt restarts every clean re-probe of a GPU, and those of the host that it takes part in:
// samples between two faults are not clean, whichever came first. An empty uuid means every GPU.
func (t *Tracker) interrupt(uuid string, at time.Time) {
	for of, g := range t.gpus {
		if uuid != "" && of != uuid {
			continue
		}
		for _, m := range g.findings {
			m.interrupt(at)
		}
	}
	for of, m := range t.host {
		if uuid == "" || of == "" || of == uuid {
			m.interrupt(at)
		}
	}
}

func (t *Tracker) known(uuid string, at time.Time) *gpu {
	g, ok := t.gpus[uuid]
	if !ok {
		g = &gpu{findings: map[findingKey]*finding{}, health: Unknown, since: at}
		t.gpus[uuid] = g
	}
	return g
}

// Stale records that facts have not been refreshed since then. It changes no GPU's health at once;
// after unknownAfter it shows as Unknown. It restarts clean re-probes.
func (t *Tracker) Stale(since time.Time) {
	if t.stale.IsZero() || since.Before(t.stale) {
		t.stale = since
	}
	for _, g := range t.gpus {
		for _, m := range g.findings {
			m.run = run{}
		}
	}
	for _, m := range t.host {
		m.run = run{}
	}
	t.interruptHints()
}

// Snapshot evaluates a sample that arrived at that time and returns what changed.
func (t *Tracker) Snapshot(s *nvml.Snapshot, at time.Time) []Change {
	if s.Driver.Problem != nil {
		t.Stale(at) // no driver, no facts: findings stay as they are
		return t.settle(at)
	}
	t.session, t.stale = s.Session, time.Time{}
	t.learn(s, at)
	t.resolve()
	for uuid, g := range t.gpus {
		d := device(s, uuid)
		for key, m := range g.findings {
			m.probe(s, d, key.factual)
			if m.cleared(key, s.Session) {
				delete(g.findings, key)
			}
		}
		t.facts(uuid, g, d, s.Taken)
	}
	t.probeHost(s)
	t.answer(s, at)
	return t.settle(at)
}

// learn records which GPUs and partitions exist.
func (t *Tracker) learn(s *nvml.Snapshot, at time.Time) {
	clear(t.partitions)
	before := t.nameless
	t.nameless = nil
	for _, d := range s.Devices {
		// dead since before the helper first saw it: its finding lasts for this sample only
		if d.UUID == "" {
			t.nameless = t.unnamed(d, before, at)
			continue
		}
		t.known(d.UUID, at).seen = true
		if d.PCI != "" {
			t.byPCI[d.PCI] = d.UUID
		}
		for _, p := range d.Partitions {
			t.partitions[p.UUID] = place{d.UUID, p.GI, p.CI}
		}
	}
}

// unnamed returns the finding of the GPUs without a UUID, including d; before is the one of the
// last sample.
func (t *Tracker) unnamed(d nvml.Device, before *finding, at time.Time) *finding {
	v, wrong := classify.Device(d)
	m := &finding{cause: v, first: at, at: at}
	if before != nil {
		m.first = before.first
	}
	if !wrong || t.nameless != nil && heavier(t.nameless, m) {
		return t.nameless
	}
	return m
}

// resolve records waiting verdicts whose GPU is now known.
func (t *Tracker) resolve() {
	t.waiting = slices.DeleteFunc(t.waiting, func(w waiting) bool {
		w.verdict.Device = t.byPCI[w.verdict.PCI]
		if w.verdict.Device == "" {
			return false
		}
		t.record(w.verdict, w.at)
		return true
	})
}

// facts records the faults that the sample itself shows.
func (t *Tracker) facts(uuid string, g *gpu, d *nvml.Device, taken time.Time) {
	if d == nil {
		if g.seen {
			t.recordOne(uuid, absent(uuid), taken, true)
		}
		return
	}
	v, wrong := classify.Device(*d)
	switch {
	case !wrong:
	case v.Scope == classify.ScopeHost:
		// hostFinding finds it
		renew(g.findings, findingKey{health: of(v), factual: true, gi: whole, ci: whole}, v, taken, t.session)
	default:
		t.recordOne(uuid, v, taken, true)
	}
}

func absent(uuid string) classify.Verdict {
	return classify.Verdict{Source: classify.SourceDevice, Class: classify.ClassReset, Scope: classify.ScopeGPU,
		Action: classify.ActionReboot,
		Code:   classify.CodeUnavailable, Kind: "lost", Device: uuid, Text: "the driver no longer lists the GPU",
		Hint: "check lspci and the kernel's log; reboot the host if the GPU should be there"}
}

// probeHost evaluates a sample for the findings on the host as a whole.
func (t *Tracker) probeHost(s *nvml.Snapshot) {
	for uuid, m := range t.host {
		m.probe(s, t.witness(s, uuid), false)
		if m.cleared(findingKey{health: Host}, s.Session) {
			delete(t.host, uuid)
		}
	}
}

// witness returns the GPU that must be clean to clear a finding on the host: the one that caused
// it, else the worst of all that were ever seen.
func (t *Tracker) witness(s *nvml.Snapshot, uuid string) *nvml.Device {
	if uuid != "" {
		return device(s, uuid)
	}
	var any *nvml.Device
	for known, g := range t.gpus {
		if !g.seen {
			continue
		}
		any = device(s, known)
		if !clean(any, false) {
			return any
		}
	}
	return any
}

func device(s *nvml.Snapshot, uuid string) *nvml.Device {
	for i := range s.Devices {
		if s.Devices[i].UUID == uuid {
			return &s.Devices[i]
		}
	}
	return nil
}

func number(n *int) int {
	if n == nil {
		return whole
	}
	return *n
}
