package health

import (
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// markKey: one mark of each kind is held against a GPU; a second one renews it.
type markKey struct {
	health  Health
	factual bool
	gi, ci  int // the MIG instance; whole where it is all of them
}

const whole = -1

// gpu is one GPU that was seen or named.
type gpu struct {
	marks  map[markKey]*mark
	seen   bool
	health Health // of marks alone, without age
	since  time.Time
}

// place is where a MIG partition is.
type place struct {
	gpu    string
	gi, ci int
}

// waiting is a verdict whose PCI address no sample has named yet.
type waiting struct {
	verdict classify.Verdict
	at      time.Time
}

// maxWaiting bounds those; the oldest goes first.
const maxWaiting = 64

// Tracker tracks all GPUs of a host. It belongs to one goroutine.
type Tracker struct {
	gpus       map[string]*gpu
	partitions map[string]place
	byPCI      map[string]string
	// marks on the host as a whole, by the UUID of the GPU that caused them, "" where none did
	host     map[string]*mark
	session  string
	stale    time.Time // since when facts are old; zero: they are fresh
	waiting  []waiting
	reports  reports
	nameless *mark // of the worst GPU in the last sample that could not even tell its UUID; nil: there is none
}

// New makes a Tracker that knows of no GPU. start is when it began to look.
func New(start time.Time) *Tracker {
	return &Tracker{gpus: map[string]*gpu{}, partitions: map[string]place{}, byPCI: map[string]string{},
		host:  map[string]*mark{},
		stale: start, reports: reports{}}
}

// Note takes a verdict into account, at the time when it was said.
func (t *Tracker) Note(v classify.Verdict, at time.Time) Noted {
	if v.Device == "" && v.PCI != "" {
		v.Device = t.byPCI[v.PCI]
	}
	n := Noted{Verdict: v, Fresh: t.reports.fresh(v, at)}
	t.hold(v, at)
	n.Changes = t.settle(at)
	return n
}

// hold puts the verdict's mark where it belongs.
func (t *Tracker) hold(v classify.Verdict, at time.Time) {
	h := of(v)
	if !h.Usable() && (v.Device != "" || v.PCI == "") {
		t.interrupt(v.Device, at)
	}
	switch {
	case h == OK:
	case v.Scope == classify.ScopeHost:
		if h == Host {
			renew(t.host, v.Device, v, at, t.session)
		} else {
			t.holdAll(v, at)
		}
	case v.Device != "":
		t.holdOne(v.Device, v, at, false)
	case v.PCI != "":
		t.waiting = append(t.waiting, waiting{v, at})
		if len(t.waiting) > maxWaiting {
			t.waiting = t.waiting[1:]
		}
	default:
		t.holdAll(v, at)
	}
}

func (t *Tracker) holdAll(v classify.Verdict, at time.Time) {
	for uuid := range t.gpus {
		t.holdOne(uuid, v, at, false)
	}
}

func (t *Tracker) holdOne(uuid string, v classify.Verdict, at time.Time, factual bool) {
	key := markKey{health: of(v), factual: factual, gi: whole, ci: whole}
	if v.Scope == classify.ScopePartition {
		key.gi, key.ci = number(v.GI), number(v.CI)
	}
	if key.health == Lost {
		key.factual = true // it is a fact from any source: an answer disproves it
	}
	renew(t.known(uuid, at).marks, key, v, at, t.session)
}

// renew enters a mark, or says it again: then a clean re-probe starts again, and what the GPU went
// through before no longer counts.
func renew[K comparable](marks map[K]*mark, key K, v classify.Verdict, at time.Time, session string) {
	m, ok := marks[key]
	if !ok {
		marks[key] = &mark{cause: v, first: at, at: at, from: at, session: session}
		return
	}
	m.cause, m.session, m.gone = v, session, false
	m.interrupt(at)
	if at.After(m.at) {
		m.at = at
	}
}

// interrupt begins every clean re-probe of a GPU again, and those of the host that it takes part
// in: samples between two faults are not clean, whichever of the two came first. An empty uuid is
// every GPU.
func (t *Tracker) interrupt(uuid string, at time.Time) {
	for of, g := range t.gpus {
		if uuid != "" && of != uuid {
			continue
		}
		for _, m := range g.marks {
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
		g = &gpu{marks: map[markKey]*mark{}, health: Unknown, since: at}
		t.gpus[uuid] = g
	}
	return g
}

// Stale reports whether facts are no longer refreshed, since then. It changes no GPU's health: only
// their age shows, later, as Unknown. A clean re-probe that was under way starts again.
func (t *Tracker) Stale(since time.Time) {
	if t.stale.IsZero() || since.Before(t.stale) {
		t.stale = since
	}
	for _, g := range t.gpus {
		for _, m := range g.marks {
			m.run = run{}
		}
	}
	for _, m := range t.host {
		m.run = run{}
	}
}

// Snapshot takes a sample into account, at the time of its arrival, and returns what changed.
func (t *Tracker) Snapshot(s *nvml.Snapshot, at time.Time) []Change {
	if s.Driver.Problem != nil {
		t.Stale(at) // no driver, no facts: what was held stays, and nothing new is
		return t.settle(at)
	}
	t.session, t.stale = s.Session, time.Time{}
	t.learn(s, at)
	t.resolve()
	for uuid, g := range t.gpus {
		d := device(s, uuid)
		for key, m := range g.marks {
			m.probe(s, d, key.factual)
			if m.cleared(key, s.Session) {
				delete(g.marks, key)
			}
		}
		t.facts(uuid, g, d, s.Taken)
	}
	t.probeHost(s)
	return t.settle(at)
}

// learn remembers which GPUs and partitions there are.
func (t *Tracker) learn(s *nvml.Snapshot, at time.Time) {
	clear(t.partitions)
	before := t.nameless
	t.nameless = nil
	for _, d := range s.Devices {
		// dead since before the helper first saw it: nothing can be held against it beyond this
		// sample
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

// unnamed is the mark of the GPUs without a UUID after another one, d; before is that of the sample
// before.
func (t *Tracker) unnamed(d nvml.Device, before *mark, at time.Time) *mark {
	v, wrong := classify.Device(d)
	m := &mark{cause: v, first: at, at: at}
	if before != nil {
		m.first = before.first
	}
	if !wrong || t.nameless != nil && heavier(t.nameless, m) {
		return t.nameless
	}
	return m
}

// resolve finds the GPUs of verdicts that came before the first sample.
func (t *Tracker) resolve() {
	t.waiting = slices.DeleteFunc(t.waiting, func(w waiting) bool {
		w.verdict.Device = t.byPCI[w.verdict.PCI]
		if w.verdict.Device == "" {
			return false
		}
		t.hold(w.verdict, w.at)
		return true
	})
}

// facts holds against a GPU what the sample itself says of it.
func (t *Tracker) facts(uuid string, g *gpu, d *nvml.Device, taken time.Time) {
	if d == nil {
		if g.seen {
			t.holdOne(uuid, absent(uuid), taken, true)
		}
		return
	}
	v, wrong := classify.Device(*d)
	switch {
	case !wrong:
	case v.Scope == classify.ScopeHost:
		renew(g.marks, markKey{of(v), true, whole, whole}, v, taken, t.session) // found by the host's row in settle
	default:
		t.holdOne(uuid, v, taken, true)
	}
}

func absent(uuid string) classify.Verdict {
	return classify.Verdict{Source: classify.SourceDevice, Class: classify.ClassReset, Scope: classify.ScopeGPU,
		Action: classify.ActionReboot,
		Code:   classify.CodeUnavailable, Kind: "lost", Device: uuid, Text: "the driver no longer lists the GPU",
		Hint: "look at lspci and the kernel's log; reboot the host if the GPU should be there"}
}

// probeHost takes a sample into the marks on the host as a whole.
func (t *Tracker) probeHost(s *nvml.Snapshot) {
	for uuid, m := range t.host {
		m.probe(s, t.witness(s, uuid), false)
		if m.cleared(markKey{health: Host}, s.Session) {
			delete(t.host, uuid)
		}
	}
}

// witness is the GPU that must be clean for a mark on the host: the one that caused it, else the
// worst of all that were ever seen.
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
