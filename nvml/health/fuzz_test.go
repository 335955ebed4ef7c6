package health_test

import (
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/nvml/nvmltest"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// oracle knows of each GPU only how bad the worst unanswered verdict is, and for how long its
// samples were clean since: written apart from the tracker, and much simpler.
type oracle struct {
	fatal map[string]health.Health // owed to verdicts since the last clean re-probe
	clean map[string][]time.Time   // samples of an unbroken clean row
	after map[string]time.Time     // of the newest verdict
}

var severity = map[health.Health]int{health.OK: 0, health.Unknown: 0, health.Degraded: 0, health.Reset: 1,
	health.Lost: 2, health.Host: 3}

func (o *oracle) verdict(uuid string, h health.Health, at time.Time) {
	if severity[h] > severity[o.fatal[uuid]] {
		o.fatal[uuid] = h
	}
	o.clean[uuid] = nil
	if at.After(o.after[uuid]) {
		o.after[uuid] = at
	}
}

func (o *oracle) sample(uuid string, clean bool, taken time.Time) {
	if !clean {
		o.clean[uuid] = nil
		return
	}
	if !taken.After(o.after[uuid]) {
		return
	}
	o.clean[uuid] = append(o.clean[uuid], taken)
	row := o.clean[uuid]
	if len(row) >= 3 && row[len(row)-1].Sub(row[0]) >= 5*time.Second {
		delete(o.fatal, uuid) // from here on it may be better; whether it is, is the tracker's table
	}
}

// FuzzTracker: whatever happens in whatever order, no GPU is better than its newest fatal verdict
// without a clean re-probe, a verdict never makes a GPU better, and staleness changes nothing but
// what shows.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{0x00, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45})
	f.Add([]byte{0x01, 0x40, 0x40, 0x40, 0x80, 0x40, 0x40, 0x40, 0x40, 0x40})
	f.Add([]byte{0x02, 0x50, 0x60, 0x70, 0x40, 0x40, 0x40, 0x40, 0x40, 0x40, 0x11, 0xc0, 0x40})
	f.Add([]byte{0x03, 0x13, 0x23, 0x33, 0x90, 0xa0, 0xb0, 0xd1, 0xe2, 0xf3, 0x4f, 0x4f, 0x4f, 0x4f})
	f.Fuzz(mutate.Many(func(t *testing.T, script []byte) {
		if len(script) > 400 {
			return
		}
		l := &life{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), session: "a",
			gpus:   []nvml.Device{nvmltest.GPU(0), nvmltest.GPU(1)},
			oracle: oracle{map[string]health.Health{}, map[string][]time.Time{}, map[string]time.Time{}}}
		l.tracker = health.New(l.now)
		l.sample()
		for _, b := range script {
			l.step(t, b)
			for uuid, owed := range l.oracle.fatal {
				if got := l.tracker.State(uuid, l.now); severity[got.Health] < severity[owed] {
					t.Fatalf("%s is %s, though a verdict says %s and no clean re-probe came", uuid, got.Health, owed)
				}
			}
		}
	}))
}

// life is one run of the fuzzer.
type life struct {
	tracker *health.Tracker
	oracle  oracle
	gpus    []nvml.Device
	session string
	now     time.Time
}

// step does one thing: the high half of b selects it, the low half the GPU and the variant.
func (l *life) step(t *testing.T, b byte) {
	i, how := int(b&1), int(b>>1&7)
	before := map[string]health.State{}
	for uuid := range l.tracker.All(l.now) {
		before[uuid] = l.tracker.State(uuid, l.now)
	}
	switch b >> 4 {
	case 0, 1, 2:
		xids := []int{119, 95, 79, 94, 31, 48, 63, 14}
		v := classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(i), Code: xids[how]})
		l.verdict(t, v, l.now, before)
	case 3: // reported late
		gi := 3
		v := classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(1), Code: 119, GI: &gi})
		l.verdict(t, v, l.now.Add(-time.Duration(how)*time.Second), before)
	case 4, 5, 6, 7:
		l.now = l.now.Add(time.Duration(how) * 700 * time.Millisecond)
		l.sample()
	case 8:
		l.gpus[i] = nvmltest.Lost(l.gpus[i])
	case 9, 10:
		l.gpus[i] = nvmltest.GPU(i)
	case 11:
		l.gpus[i].Recovery = []nvml.Recovery{"", nvml.RecoveryNone, nvml.RecoveryReset, nvml.RecoveryReboot,
			nvml.RecoveryDrainP2P, nvml.RecoveryDrainAndReset, "", "new"}[how]
	case 12:
		l.session = string(rune('a' + how))
	case 13:
		l.tracker.Stale(l.now)
		for uuid, was := range before {
			if is := l.tracker.State(uuid, l.now); is.Health != was.Health {
				t.Fatalf("staleness made %s %s", was.Health, is.Health)
			}
		}
	case 14:
		l.now = l.now.Add(time.Duration(how) * 4 * time.Minute)
	case 15:
		l.gpus[i].Remap = &nvml.Remap{Pending: how&1 != 0, Failed: how&2 != 0}
	}
}

func (l *life) verdict(t *testing.T, v classify.Verdict, at time.Time, before map[string]health.State) {
	n := l.tracker.Note(v, at)
	for uuid, was := range before {
		is := l.tracker.State(uuid, l.now)
		if severity[is.Health] < severity[was.Health] {
			t.Fatalf("verdict %+v made %s better: %s, was %s", v, uuid, is.Health, was.Health)
		}
	}
	switch v.Class {
	case classify.ClassReset:
		l.oracle.verdict(n.Verdict.Device, health.Reset, at)
	case classify.ClassHost:
		// The whole host owes a re-probe; it is that of the GPU which caused it.
		l.oracle.verdict(n.Verdict.Device, health.Host, at)
	}
}

func (l *life) sample() {
	s := &nvml.Snapshot{Taken: l.now, Session: l.session, Devices: append([]nvml.Device(nil), l.gpus...)}
	l.tracker.Snapshot(s, l.now)
	for _, d := range l.gpus {
		l.oracle.sample(d.UUID, d.Problem == nil && (d.Recovery == "" || d.Recovery == nvml.RecoveryNone), l.now)
	}
}
