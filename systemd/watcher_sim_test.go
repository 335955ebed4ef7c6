package systemd

import (
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/godbus/dbus/v5"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// pid1 imitates PID 1's side of the connection: state that changes at any time, answers that show
// the state of their time, signals that are queued and show the state of the moment they are sent,
// and questions that load units which are not there.
type pid1 struct {
	clock  uint64
	units  map[string]*simUnit
	stream []func(w *watcher) []action // sent, not yet received
	asked  []func()                    // received from the watcher, not yet answered

	passesFailed bool            // it may signal a unit as failed that it restarts, as below systemd 254
	passed       map[uint64]bool // the times of these states
}

type simUnit struct {
	props   properties
	said    bool // UnitNew was sent
	pending bool // a change is to be signalled
}

func newPID1() *pid1 { return &pid1{units: make(map[string]*simUnit), passed: make(map[uint64]bool)} }

// load makes a unit, empty or not.
func (p *pid1) load(name, loadState string) *simUnit {
	u := p.units[name]
	if u == nil {
		u = &simUnit{props: properties{"ActiveState": "inactive", "SubState": "dead", "NRestarts": uint32(0)},
			pending: true}
		p.units[name] = u
	}
	u.props["LoadState"] = loadState
	return u
}

// enter changes a unit's state.
func (p *pid1) enter(u *simUnit, active, sub string) {
	p.clock++
	u.props["ActiveState"], u.props["SubState"] = active, sub
	u.props["StateChangeTimestamp"] = p.clock
	u.pending = true
}

func (p *pid1) start(name string) {
	u := p.load(name, "loaded")
	p.enter(u, "activating", "start-post")
	u.props["MainPID"] = uint32(p.clock)
	u.props["InvocationID"] = []byte{byte(p.clock >> 8), byte(p.clock)}
	u.props["ControlGroup"] = "/" + name
	u.props["ExecStartPreEx"], u.props["ExecStartPostEx"] = [][]any{}, [][]any{}
}

// fail ends a run by its gate, with a status of its own.
func (p *pid1) fail(name, sub string) {
	u := p.units[name]
	if u == nil || u.props.integer("MainPID") == 0 {
		return
	}
	u.props["MainPID"], u.props["ControlGroup"] = uint32(0), ""
	if sub == "failed" || p.passesFailed {
		p.enter(u, "failed", "failed")
	}
	if sub != "failed" {
		if p.passesFailed && p.clock%2 == 0 {
			p.signal(name, u) // the end of a job sends it
			p.passed[p.clock] = true
		}
		p.enter(u, "activating", sub)
		u.props["NRestarts"] = uint32(u.props.integer("NRestarts") + 1)
	}
	u.props["ExecStartPostEx"] = [][]any{{"/gate", []string{}, []string{}, uint64(0), uint64(0), p.clock, p.clock,
		uint32(1), int32(1), int32(p.clock)}}
	if p.clock%3 == 0 { // it was the step before the start that failed
		u.props["ExecStartPreEx"], u.props["ExecStartPostEx"] = u.props["ExecStartPostEx"], [][]any{}
	}
}

func (p *pid1) stop(name string) {
	if u := p.units[name]; u != nil {
		p.enter(u, "inactive", "dead")
		u.props["MainPID"], u.props["ControlGroup"] = uint32(0), ""
	}
}

// flush sends queued signals and then collects units that no client references.
func (p *pid1) flush() {
	for _, name := range []string{"e@a", "e@b", "e@c"} {
		u := p.units[name]
		if u == nil {
			continue
		}
		if u.pending {
			p.signal(name, u)
		}
		if u.props["ActiveState"] == "inactive" {
			delete(p.units, name)
			p.send(func(w *watcher) []action { return w.unitRemoved(name) })
		}
	}
}

// reload frees and loads every unit, as a daemon-reload does.
func (p *pid1) reload() {
	for _, name := range []string{"e@a", "e@b", "e@c"} {
		u := p.units[name]
		if u == nil {
			continue
		}
		if !u.said || u.pending {
			p.signal(name, u)
		}
		p.send(func(w *watcher) []action { return w.unitRemoved(name) })
		u.said, u.pending = false, true
	}
}

func (p *pid1) signal(name string, u *simUnit) {
	u.pending = false
	if !u.said {
		u.said = true
		p.send(func(w *watcher) []action { return w.unitNew(name) })
		return
	}
	service := u.copy("MainPID", "NRestarts")
	unit := u.copy("ActiveState", "SubState", "StateChangeTimestamp", "InvocationID")
	p.send(func(w *watcher) []action { return w.changed(name, serviceInterface, service) })
	p.send(func(w *watcher) []action { return w.changed(name, unitInterface, unit) })
}

func (u *simUnit) copy(names ...string) properties {
	out := make(properties)
	for _, n := range names {
		if v, ok := u.props[n]; ok {
			out[n] = v
		}
	}
	return out
}

func (p *pid1) send(m func(*watcher) []action) { p.stream = append(p.stream, m) }

// list answers a listing of the names, which loads nothing.
func (p *pid1) list(names ...string) []listedUnit {
	var out []listedUnit
	for _, n := range names {
		if u := p.units[n]; u != nil {
			out = append(out, listedUnit{n, u.props.str("LoadState"), u.props.str("ActiveState"),
				u.props.str("SubState"), u.props.jobID()})
		}
	}
	return out
}

func (p *pid1) ask(question func()) { p.asked = append(p.asked, question) }

// simulation is a watcher, its PID 1 and a consumer that keeps what it received.
type simulation struct {
	t       *testing.T
	pid1    *pid1
	watcher *watcher
	known   map[string]Status
	synced  int
}

func newSimulation(t *testing.T, known func(property string) bool) *simulation {
	s := &simulation{t: t, pid1: newPID1(), known: make(map[string]Status)}
	s.pid1.passesFailed = !known("RestartMode")
	s.watcher = newWatcher("e@*", nil, known)
	return s
}

// connect asks for the first listing.
func (s *simulation) connect() {
	s.pid1.ask(func() {
		units := s.pid1.list("e@a", "e@b", "e@c")
		s.pid1.send(func(w *watcher) []action { return w.list(units) })
	})
}

// answer has PID 1 take one question.
func (s *simulation) answer() {
	if len(s.pid1.asked) > 0 {
		question := s.pid1.asked[0]
		s.pid1.asked = s.pid1.asked[1:]
		question()
	}
}

// receive has the watcher take one message.
func (s *simulation) receive() {
	if len(s.pid1.stream) == 0 {
		return
	}
	message := s.pid1.stream[0]
	s.pid1.stream = s.pid1.stream[1:]
	for _, a := range message(s.watcher) {
		s.carryOut(a)
	}
}

func (s *simulation) carryOut(a action) {
	switch {
	case a.check != "":
		name := a.check
		s.pid1.ask(func() {
			units := s.pid1.list(name)
			s.pid1.send(func(w *watcher) []action { return w.checked(name, units) })
		})
	case a.read != nil:
		for _, property := range a.read.properties {
			s.pid1.ask(func() {
				u := s.pid1.units[a.read.unit]
				if u == nil {
					u = s.pid1.load(a.read.unit, notFound)
				}
				value := u.props[property]
				s.pid1.send(func(w *watcher) []action { return w.value(a.read, property, value) })
			})
		}
	default:
		s.consume(*a.deliver)
	}
}

// consume keeps what the consumer received.
func (s *simulation) consume(u Update) {
	if (u.Kind == Synced) != (s.synced == 0) {
		s.t.Fatalf("%v after %d Synced", u.Kind, s.synced)
	}
	for _, st := range append(u.Units, u.Unit) {
		if st.SubState == "failed" && s.pid1.passed[uint64(st.StateChange.UnixMicro())] {
			s.t.Fatalf("%s is shown as failed on its way to a restart", st.Name)
		}
	}
	switch u.Kind {
	case Synced:
		s.synced++
		for _, st := range u.Units {
			s.known[st.Name] = st
		}
	case Changed:
		if u.Unit.StateChange.Before(s.known[u.Name].StateChange) {
			s.t.Fatalf("%s went back in time, from %s to %s", u.Name, s.known[u.Name].SubState, u.Unit.SubState)
		}
		s.known[u.Name] = u.Unit
	case Removed:
		if _, ok := s.known[u.Name]; !ok {
			s.t.Fatalf("%s was removed but never known", u.Name)
		}
		delete(s.known, u.Name)
	}
}

// settle lets everything arrive; it must come to rest.
func (s *simulation) settle() {
	for range 10_000 {
		s.pid1.flush()
		if len(s.pid1.asked) == 0 && len(s.pid1.stream) == 0 {
			return
		}
		s.answer()
		for len(s.pid1.stream) > 0 {
			s.receive()
		}
	}
	s.t.Fatal("the watcher and PID 1 chase each other")
}

// check compares what the consumer received with PID 1's state.
func (s *simulation) check() {
	if s.synced != 1 {
		s.t.Fatalf("synchronised %d times", s.synced)
	}
	want := make(map[string]Status)
	for name, u := range s.pid1.units {
		want[name] = u.props.status(name, []string{})
	}
	if !reflect.DeepEqual(s.known, want) {
		s.t.Fatalf("the consumer has\n%+v\nbut PID 1 has\n%+v", s.known, want)
	}
}

// FuzzWatcher plays any history and any timing of the connection: in the end the consumer has PID
// 1's state, it never received older values after newer ones, nor a unit as failed that PID 1
// restarts, and everything settles.
func FuzzWatcher(f *testing.F) {
	f.Add([]byte{0, 9, 6, 7, 8, 8})
	f.Add([]byte{9, 0, 1, 2, 6, 6, 7, 8, 3, 6, 8, 8, 7, 7, 7, 4, 6, 5, 6, 7, 8, 8, 8})
	f.Add([]byte{0, 9, 7, 8, 7, 7, 7, 5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 8, 8, 0, 6, 7, 8, 8})
	f.Fuzz(mutate.Many(func(t *testing.T, history []byte) {
		if len(history) > 2000 {
			t.Skip("long enough")
		}
		play(t, history, func(string) bool { return true })
		play(t, history, below254)
	}))
}

// TestWatcherAnyHistory plays random ones.
func TestWatcherAnyHistory(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		history := make([]byte, 10+random.IntN(150))
		for i := range history {
			history[i] = byte(random.IntN(256))
		}
		play(t, history, below254)
		play(t, history, func(string) bool { return true })
	}
}

// play plays one history with a PID 1 that has the known properties.
func play(t *testing.T, history []byte, known func(property string) bool) {
	s := newSimulation(t, known)
	connected := false
	for _, step := range history {
		unit := []string{"e@a", "e@b", "e@c"}[step>>4%3]
		switch step & 15 {
		case 0, 10:
			s.pid1.start(unit)
		case 1:
			s.pid1.fail(unit, "failed")
		case 2, 11:
			s.pid1.fail(unit, "auto-restart")
		case 3, 4:
			s.pid1.stop(unit)
		case 5:
			s.pid1.reload()
		case 6, 12:
			s.pid1.flush()
		case 7:
			s.answer()
		case 8:
			s.receive()
		case 13:
			for len(s.pid1.asked) > 0 {
				s.answer()
			}
		case 14:
			for len(s.pid1.stream) > 0 {
				s.receive()
			}
		case 9:
			if !connected {
				connected = true
				s.connect()
			}
		case 15:
			if s.pid1.units[unit] == nil {
				s.pid1.load(unit, notFound)
			}
		}
	}
	if !connected {
		s.connect()
	}
	s.settle()
	s.check()
}

// FuzzOrder delivers a stream of messages by two ways, with any timing: they come out in the order
// of the stream, each once, as early as can be known.
func FuzzOrder(f *testing.F) {
	f.Add([]byte{1, 0, 2, 0, 1, 2, 3, 0, 1})
	f.Fuzz(mutate.Many(func(t *testing.T, timing []byte) {
		var o order
		var arrived, due dbus.Sequence
		var replies, signals []message
		at := 0
		arrive := func(steps byte) {
			for range steps % 4 {
				arrived++
				if at++; at < len(timing) && timing[at]&16 != 0 {
					signals = append(signals, message{seq: arrived, signal: &dbus.Signal{}})
				} else {
					replies = append(replies, message{seq: arrived, reply: &dbus.Call{}})
				}
			}
		}
		take := func(from *[]message) func() []message {
			return func() []message {
				out := *from
				*from = nil
				if at < len(timing) {
					arrive(timing[at])
				}
				return out
			}
		}
		look := func() bool {
			ready, more := o.next(take(&replies), take(&signals))
			for _, m := range ready {
				if due++; m.seq != due {
					t.Fatalf("message %d came when %d was due", m.seq, due)
				}
			}
			return more
		}
		for ; at < len(timing); at++ {
			arrive(timing[at])
			look()
		}
		for look() || len(replies)+len(signals) > 0 {
		}
		if due != arrived {
			t.Fatalf("%d of %d messages came out", due, arrived)
		}
	}))
}
