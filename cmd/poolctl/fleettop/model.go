// Package fleettop is the live view of all hosts: what is shown, what each key does, and the screen
// as lines of text.
//
// As package top, it is pure: the caller reads the fleet, passes on what happened and does what is
// returned. Everything that is shown comes from other hosts and is made safe when it is drawn
// (term.Painter). It must not know where the fleet is read, and changes nothing: pools of other
// hosts are operated there.
package fleettop

import (
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// What happens, beside keys and listview.Size.
type (
	// Whole is the fleet at one moment.
	Whole struct {
		At   time.Time
		List wire.FleetPools
	}
	// Change is one of the stream: of a host, a pool or a conflict, or that etcd was lost.
	Change struct {
		At    time.Time
		Event wire.FleetEvent
	}
	// Trouble is that the fleet cannot be read. What is shown stays, marked as old.
	Trouble struct {
		At   time.Time
		Text string // one sentence
	}
)

// mostEvents bounds the tail of what changed.
const mostEvents = 500

// Model is the state of the view. Make one with New.
type Model struct {
	listview.List[row]
	name string // of the fleet: who was asked
	zone *time.Location

	hosts     map[string]wire.FleetHost
	pools     map[string]*wire.FleetPool // by machine-id and id
	conflicts map[string]wire.FleetConflict
	known     bool      // there was a whole fleet
	at        time.Time // of the newest news
	trouble   string    // why it is old; empty: it is not
	began     time.Time // of the trouble
	seen      time.Time // the last time it was reported
	events    []line

	stale  bool   // rows are to be made again
	detail string // the key of the pool of that page
}

// line is one of the tail.
type line struct {
	at         time.Time
	kind, text string
	bad        bool
}

// New returns a view of the fleet that someone was asked for.
func New(name string, zone *time.Location) *Model {
	return &Model{name: name, zone: zone, hosts: map[string]wire.FleetHost{}, pools: map[string]*wire.FleetPool{},
		conflicts: map[string]wire.FleetConflict{}, List: listview.List[row]{Columns: columns(), Groups: names(),
			Key: func(r *row) string { return r.key }, Size: listview.Size{Width: 80, Height: 24},
			Folded: map[string]bool{}}}
}

// Update takes what happened, a key among it, and returns what is to be done:
// listview.Quit, Suspend and Redraw.
func (m *Model) Update(happened any) []any {
	m.stale = true
	switch h := happened.(type) {
	case Whole:
		m.replace(h)
	case Change:
		m.at = h.At
		m.change(h)
	case Trouble:
		m.lose(h.At, h.Text)
	case listview.Size:
		m.Size = h
	case term.Key:
		return m.press(h)
	}
	return nil
}

func (m *Model) lose(at time.Time, text string) {
	if m.trouble == "" {
		m.began = at
	}
	m.trouble, m.seen = text, at
}

// replace takes a whole fleet: what is not in it has gone.
func (m *Model) replace(w Whole) {
	m.at, m.trouble = w.At, ""
	hosts, pools := map[string]bool{}, map[string]bool{}
	conflicts := map[string]wire.FleetConflict{}
	for _, h := range w.List.Hosts {
		hosts[h.MachineID] = true
		m.putHost(w.At, h)
	}
	for i := range w.List.Pools {
		p := w.List.Pools[i]
		pools[keyOf(p.MachineID, p.ID)] = true
		m.putPool(w.At, &p)
	}
	for _, c := range w.List.Conflicts {
		conflicts[keyOf(c.MachineID, c.BootID)] = c
	}
	m.conflicts = conflicts
	for key := range m.pools {
		if !pools[key] {
			m.dropPool(w.At, key)
		}
	}
	for id := range m.hosts {
		if !hosts[id] {
			m.dropHost(w.At, id)
		}
	}
	m.known = true
}

func keyOf(machine, name string) string { return machine + "/" + name }

// change takes one of the stream.
func (m *Model) change(c Change) {
	e := c.Event
	switch e.Kind {
	case "host":
		if e.Host != nil {
			m.putHost(c.At, *e.Host)
		}
	case "host-gone":
		m.dropHost(c.At, e.MachineID)
	case "pool":
		if e.Pool != nil {
			m.putPool(c.At, e.Pool)
		}
	case "pool-gone":
		m.dropPool(c.At, keyOf(e.MachineID, e.PoolID))
	case "conflict":
		if e.Conflict != nil {
			m.conflicts[keyOf(e.MachineID, e.BootID)] = *e.Conflict
			m.tell(c.At, "conflict", e.Node+" has the machine-id of another host", true)
		}
	case "conflict-gone":
		delete(m.conflicts, keyOf(e.MachineID, e.BootID))
	case "lost":
		m.lose(c.At, "etcd cannot be read: "+e.LastError)
	case "synced":
		m.trouble = ""
	}
}

func (m *Model) putHost(at time.Time, h wire.FleetHost) {
	if _, was := m.hosts[h.MachineID]; !was && m.known {
		m.tell(at, "host", h.Name+" is there", false)
	}
	m.hosts[h.MachineID] = h
}

func (m *Model) dropHost(at time.Time, id string) {
	if h, was := m.hosts[id]; was {
		m.tell(at, "host", h.Name+" is gone", true)
		delete(m.hosts, id)
	}
}

// putPool takes a pool. Slots alone are no news for the tail.
func (m *Model) putPool(at time.Time, p *wire.FleetPool) {
	key := keyOf(p.MachineID, p.ID)
	was := m.pools[key]
	m.pools[key] = p
	if m.known && (was == nil || was.State != p.State || was.Ready != p.Ready || was.Draining != p.Draining) {
		text := p.Node + "/" + p.ID + "  " + (&row{pool: p}).state()
		if p.LastError != "" && !p.Ready {
			text += " (" + p.LastError + ")"
		}
		m.tell(at, "pool", text, !p.Ready && listview.Troubled(p.State))
	}
}

func (m *Model) dropPool(at time.Time, key string) {
	if p := m.pools[key]; p != nil {
		m.tell(at, "pool", p.Node+"/"+p.ID+"  is gone", false)
		delete(m.pools, key)
	}
}

// tell adds a line to the tail.
func (m *Model) tell(at time.Time, kind, text string, bad bool) {
	if m.events = append(m.events, line{at, kind, text, bad}); len(m.events) > mostEvents {
		m.events = append(m.events[:0], m.events[len(m.events)-mostEvents:]...)
	}
}
