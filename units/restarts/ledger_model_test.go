package restarts

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// pid1 is a model of how PID 1 runs one unit: what it reports, and how many runs failed.
type pid1 struct {
	sight  Sight
	state  string // "up", "passing", "waiting", "queued", "failed", "limit", "given up", "inactive", "gone"
	runs   int
	flush  bool // NRestarts is set to 0 at the next start
	failed int  // the truth
}

// begin starts the next run.
func (p *pid1) begin() {
	if p.flush {
		p.sight.Restarts, p.flush = 0, false
	}
	p.runs++
	p.sight.Run = fmt.Sprintf("%032x", p.runs)
	p.to("up")
}

func (p *pid1) to(state string) {
	p.state = state
	p.sight.Phase = map[string]Phase{"up": PhaseRuns, "waiting": PhaseFailed, "queued": PhaseQueued,
		"passing": PhaseOver, "failed": PhaseOver, "limit": PhaseDown, "given up": PhaseOver, "inactive": PhaseDown, "gone": PhaseRuns}[state]
}

// monitor is a manager that looks at the model, not always and not always in time.
type monitor struct {
	t     *testing.T
	r     *rand.Rand
	calm  bool // no one but PID 1 touches the unit
	p     pid1
	l     Ledger
	saved []byte // as last saved
	stale []Sight
	since []dated // states of the unit since the last observation, which a signal may report
	sum   int     // of all ends that were returned since the ledger was read back
	base  int     // Failed at that time

	lost    int  // runs that no one can know of: the counter was reset after them
	resets  int  // of the counter
	noticed int  // resets, at the newest observation
	unsaved bool // the counter was reset since the ledger was saved
}

// dated is a state of the unit after that many resets of its counter.
type dated struct {
	Sight
	resets int
}

func (m *monitor) now() dated { return dated{m.p.sight, m.resets} }

// dropped records that PID 1 loses the count of its counter.
func (m *monitor) dropped() {
	m.lost += m.p.failed - m.l.Failed
	if m.l.End == EndFailed && (m.l.Run != m.p.sight.Run || m.p.state != "waiting") {
		m.lost++ // the first restart that is counted after this may be that of m.l.Run, and is taken for it
	}
	m.resets++
	m.unsaved = true
}

// happen lets PID 1 do one thing.
func (m *monitor) happen() {
	p, rare := &m.p, m.r.IntN(40)
	if m.calm {
		rare = 40 // the counter is never reset
	}
	switch n := rare; {
	case p.state == "gone":
		m.begins()
	case n == 0: // an administrator, or the manager
		m.dropped()
		p.sight.Restarts, p.flush = 0, false
		if p.state == "failed" || p.state == "limit" || p.state == "given up" {
			p.to("inactive")
		}
	case n == 1 && (p.state == "up" || p.state == "waiting"): // stopped by hand
		m.dropped()
		p.flush = true
		p.to("inactive")
	case n == 2 && p.state == "up": // restarted by hand
		m.dropped()
		p.flush = true
		p.begin()
	case n == 3 && p.state == "waiting": // a start job ends the wait
		m.lost++ // no counter has it
		m.unsaved = true
		p.begin()
	case n == 4 && p.state == "up": // failed, and not to be restarted
		p.failed++
		m.observe(m.now())
		p.flush = true
		p.to("failed")
		m.observe(m.now())
		m.dropped()
	case n == 5 && p.state != "up": // the manager takes it, and starts it when its time has come
		m.dropped()
		p.to("gone")
		m.l.Begin()
		m.save()
	case p.state == "up":
		p.failed++
		p.to([]string{"waiting", "passing"}[m.r.IntN(2)]) // below 254 it passes "failed"
	case p.state == "passing":
		p.to("waiting")
	case p.state == "waiting":
		p.sight.Restarts++
		p.to("queued")
	case p.state == "queued" && m.r.IntN(10) == 0:
		p.to([]string{"limit", "given up"}[m.r.IntN(2)]) // below 262 it is as any failure
		p.flush = true
	case p.state == "queued":
		p.begin()
	case m.calm:
	default: // started by hand
		m.dropped()
		p.begin()
	}
	m.since = append(m.since, m.now())
}

// begins makes the unit again.
func (m *monitor) begins() {
	m.p.sight.Restarts, m.p.flush = 0, false
	m.p.begin()
	m.since = []dated{m.now()}
}

// observe lets the manager see s.
func (m *monitor) observe(d dated) {
	if d.resets > m.noticed && d.Restarts >= m.l.Restarts {
		m.lost += m.l.Restarts // no one could see that it was reset
	}
	m.take(d.Sight)
	m.noticed, m.since = max(m.noticed, d.resets), []dated{d}
	if m.stale = append(m.stale, d.Sight); len(m.stale) > 5 {
		m.stale = m.stale[1:]
	}
}

// take makes the ledger observe s, and checks the invariants.
func (m *monitor) take(s Sight) {
	m.t.Helper()
	before := m.l
	e := m.l.Observe(s)
	m.sum += e.Unseen
	if e.Run != "" {
		m.sum++
	}
	switch {
	case m.l.Failed > m.p.failed:
		m.t.Fatalf("%d runs are counted of %d\nobserved %+v\nbefore   %+v\nafter    %+v", m.l.Failed, m.p.failed, s,
			before, m.l)
	case m.l.Failed < before.Failed, m.l.Before < before.Before, m.l.Before > m.l.Failed:
		m.t.Fatalf("observed %+v\nbefore   %+v\nafter    %+v", s, before, m.l)
	case e.Unseen < 0, m.base+m.sum != m.l.Failed:
		m.t.Fatalf("ends of %d runs were returned, and %d were counted", m.sum, m.l.Failed-m.base)
	}
	if again := m.l; again.Observe(s) != (Ends{}) || !reflect.DeepEqual(again, m.l) && s.Restarts >= m.l.Restarts {
		m.t.Fatalf("the same observation counts twice: %+v", s)
	}
	if m.r.IntN(3) > 0 {
		m.save()
	}
}

func (m *monitor) save() {
	m.saved, _ = json.Marshal(m.l)
	m.unsaved = false
}

// look is one observation of the manager.
func (m *monitor) look() {
	switch m.r.IntN(8) {
	case 0: // an old answer
		m.take(m.stale[m.r.IntN(len(m.stale))])
	case 1: // a signal delayed while more happened
		later := m.since[m.r.IntN(len(m.since)):]
		m.observe(later[0])
		m.since = later
	case 2: // killed, and the next one reads the saved ledger
		if m.unsaved {
			var saved Ledger
			_ = json.Unmarshal(m.saved, &saved)
			m.lost += m.p.failed - saved.Failed
		}
		m.l = Ledger{}
		if err := json.Unmarshal(m.saved, &m.l); err != nil {
			m.t.Fatal(err)
		}
		m.sum, m.base, m.noticed, m.stale = 0, m.l.Failed, 0, nil
		m.observe(m.now())
	default:
		m.observe(m.now())
	}
}

// walk makes some events happen, observes some, and checks the result at the end.
func (m *monitor) walk(events, rare int) {
	m.save()
	m.begins()
	m.observe(m.now())
	for range events {
		if m.happen(); m.p.state != "gone" && m.r.IntN(rare) == 0 {
			m.look()
		}
	}
	if m.p.state == "gone" {
		m.begins()
	}
	if m.p.state == "passing" {
		m.p.to("waiting")
	}
	m.observe(m.now())
	if m.l.Failed < m.p.failed-m.lost || m.calm && m.lost > 0 {
		m.t.Fatalf("%d of %d runs are counted, and %d cannot be known\n%+v", m.l.Failed, m.p.failed, m.lost, m.l)
	}
}

// TestLedgerCountsEachRunOnce: whatever PID 1 does and whenever the manager looks, each failed run
// is counted once, and none that PID 1's counter still has is missing.
func TestLedgerCountsEachRunOnce(t *testing.T) {
	for seed := range uint64(6000) {
		r := rand.New(rand.NewPCG(seed, 9))
		m := &monitor{t: t, r: r, calm: seed%2 == 0}
		if m.walk(10+r.IntN(60), 1+r.IntN(12)); t.Failed() {
			t.Fatalf("walk %d", seed)
		}
	}
}

// bytesSource makes random numbers: small ones from a fuzzer's bytes, as long as there are any.
type bytesSource struct {
	of   []byte
	rest *rand.PCG
}

func (b *bytesSource) Uint64() uint64 {
	n := b.rest.Uint64()
	if len(b.of) > 0 {
		n = uint64(b.of[0])<<56 | n>>8
		b.of = b.of[1:]
	}
	return n
}

// FuzzLedger takes a walk that the bytes determine.
func FuzzLedger(f *testing.F) {
	f.Add(true, byte(1), []byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
	f.Add(false, byte(3), []byte{0, 40, 80, 120, 160, 200, 240, 20, 60, 100, 140, 180, 220, 250, 10, 30, 50, 70, 90})
	f.Fuzz(mutate.Many(func(t *testing.T, calm bool, rare byte, of []byte) {
		source := &bytesSource{of: of, rest: rand.NewPCG(1, 2)}
		m := &monitor{t: t, r: rand.New(source), calm: calm}
		m.walk(min(len(of), 200), 1+int(rare%16))
	}))
}
