package top

import (
	"fmt"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// tail is the header and the newest events that there is room for.
func (m *Model) tail() []term.Line {
	lines := []term.Line{m.Bar("EVENTS", 0)}
	gpus, pools := m.parts()
	room := max(1, m.Height-4-gpus-pools-1)
	for _, t := range m.events[max(0, len(m.events)-room):] {
		lines = append(lines, m.event(t))
	}
	return lines
}

func (m *Model) event(t tail) term.Line {
	if t.missed != nil {
		if t.missed.Count == nil {
			return listview.Plain("(events are missing here)")
		}
		return listview.Plain(fmt.Sprintf("(%d events are missing here)", *t.missed.Count))
	}
	e := &t.event
	of, style := e.PoolID, term.Style(0)
	switch {
	case e.ReplicaID != "":
		of += "/" + e.ReplicaID
	case of == "":
		of = e.Device
	}
	if e.Kind == string(registry.KindCrash) || e.Kind == string(registry.KindStorm) || e.Ready != nil && !*e.Ready {
		style = term.Yellow
	}
	return term.Line{{Text: m.clock(time.UnixMilli(e.AtMS)) + " "},
		{Text: term.Left(e.Kind, 8), Style: style}, {Text: " " + of + "  " + eventText(e)}}
}

// eventText is what happened, in words.
func eventText(e *wire.Event) string {
	words := e.Cause
	if e.Kind == string(registry.KindReady) && e.Ready != nil {
		if words = "not ready: " + e.Cause; *e.Ready {
			words = "ready: " + e.Cause
		}
	}
	if e.LastError != nil && !strings.Contains(*e.LastError, e.Cause) {
		words += " (" + *e.LastError + ")"
	}
	return words
}
