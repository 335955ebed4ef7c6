// Package top is the live view of poolctl: what is shown, what each key does, and the screen as
// lines of text.
//
// Update changes the model by what happened and returns what is to be done; View draws it. Neither
// does any I/O, has a clock or starts anything: the caller polls, reads events, runs journalctl and
// sends requests. Everything that is shown comes from the API or the journal and is made safe when
// it is drawn (term.Painter).
package top

import (
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// What happens, beside keys and listview.Size.
type (
	// Picture is the answer to one poll.
	Picture struct {
		At      time.Time
		Pools   wire.PoolList
		Usage   wire.Usage
		Devices wire.DeviceList
	}
	// Trouble is a poll without an answer. What is shown stays, marked as old.
	Trouble struct {
		At   time.Time
		Text string // one sentence
	}
	// Events are new ones, oldest first.
	Events []wire.Event
	// Missed is a gap between events; nil: of unknown length.
	Missed struct{ Count *int64 }
	// Log are new lines of a pool's log, oldest first.
	Log struct {
		Pool  string
		Lines []string
		End   string // why no others follow; empty: they may
	}
	// Done is the answer to an action.
	Done struct {
		Do  Do
		Err string // empty: accepted
	}
)

// What is to be done, beside listview.Quit, Suspend and Redraw.
type (
	// Follow reads the log of a pool, whose units these are, in place of the one before; empty: of
	// none.
	Follow struct {
		Pool  string
		Units []string
	}
	// Do asks for a change of a pool.
	Do struct{ Verb, Pool string }
)

// Bounds of what is kept.
const (
	mostEvents   = 500
	mostLogLines = 200
)

// Model is the state of the view. Make one with New.
type Model struct {
	listview.List[row]
	host string
	zone *time.Location

	picture Picture
	known   bool // there was a picture
	figures map[string]*figures
	trouble *Trouble
	began   time.Time // of the trouble
	events  []tail
	opened  map[string]bool // pools whose replicas are shown

	pool    string // of the page of details
	log     []string
	logEnd  string
	ask     *Do    // waits for a yes
	note    string // what became of the last action
	noteBad bool
}

// tail is a line of the tail of events; Missed where some are not known.
type tail struct {
	event  wire.Event
	missed *Missed
}

// New returns a view of a host, by the name that people know it by.
func New(host string, zone *time.Location) *Model {
	return &Model{host: host, zone: zone, opened: make(map[string]bool), List: listview.List[row]{Columns: columns(),
		Groups: names(), Key: func(r *row) string { return r.key }, Size: listview.Size{Width: 80, Height: 24},
		Folded: make(map[string]bool)}}
}

// Update takes what happened, a key among it, and returns what is to be done.
func (m *Model) Update(happened any) []any {
	switch h := happened.(type) {
	case Picture:
		m.picture, m.known, m.trouble = h, true, nil
		m.figures = figuresOf(&m.picture)
		m.layOut()
	case Trouble:
		if m.trouble == nil {
			m.began = h.At
		}
		m.trouble = &h
	case Events:
		for _, e := range h {
			m.addEvent(tail{event: e})
		}
	case Missed:
		m.addEvent(tail{missed: &h})
	case listview.Size:
		m.Size = h
		m.layOut()
	case Log:
		m.addLog(h)
	case Done:
		m.done(h)
	case term.Key:
		return m.press(h)
	}
	return nil
}

func (m *Model) addEvent(t tail) {
	if m.events = append(m.events, t); len(m.events) > mostEvents {
		m.events = append(m.events[:0], m.events[len(m.events)-mostEvents:]...)
	}
}

func (m *Model) addLog(l Log) {
	if m.Page != listview.PageDetail || l.Pool != m.pool {
		return // of a page that was left
	}
	m.log = append(m.log, l.Lines...)
	if n := len(m.log) - mostLogLines; n > 0 {
		m.log = append(m.log[:0], m.log[n:]...)
	}
	m.logEnd = l.End
}

func (m *Model) done(d Done) {
	m.note, m.noteBad = d.Do.Verb+" of "+d.Do.Pool+" is in progress", false
	if d.Err != "" {
		m.note, m.noteBad = d.Do.Verb+" of "+d.Do.Pool+": "+d.Err, true
	}
}
