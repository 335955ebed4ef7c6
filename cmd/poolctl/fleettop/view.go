package fleettop

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
)

// View returns the screen, one line for each of the terminal.
func (m *Model) View() []term.Line {
	if !m.Fits() {
		return m.TooSmall()
	}
	m.layOut()
	lines := []term.Line{m.title(), m.second()}
	switch m.Page {
	case listview.PageHelp:
		lines = append(lines, m.Help(help(), 18,
			"SLOTS: in use, of all. RST: restarts. A pool is operated at its host: poolctl --host.")...)
	case listview.PageDetail:
		lines = append(lines, m.detailPage()...)
	default:
		lines = append(lines, m.table()...)
		lines = append(lines, m.tail()...)
	}
	return m.Screen(lines, listview.Plain(m.footer()))
}

func (m *Model) clock(at time.Time) string { return at.In(m.zone).Format(time.TimeOnly) }

// title sums everything up.
func (m *Model) title() term.Line {
	if !m.known {
		return m.Bar(m.name, term.Bold)
	}
	all, bad := row{}, 0
	for key, p := range m.pools {
		r := rowOf(key, p)
		all.members, all.ready = all.members+1, all.ready+r.ready
		all.used, all.total = all.used+r.used, all.total+r.total
		if !p.Ready && listview.Troubled(p.State) {
			bad++
		}
	}
	parts := []string{term.Cut(m.name, 24), m.clock(m.at), fmt.Sprintf("hosts %d", len(m.hosts)),
		fmt.Sprintf("%d of %d ready", all.ready, all.members)}
	if bad > 0 {
		parts = append(parts, fmt.Sprintf("%d in trouble", bad))
	}
	parts = append(parts, "slots "+all.slots())
	if n := len(m.conflicts); n > 0 {
		parts = append(parts, fmt.Sprintf("conflicts %d", n))
	}
	return m.Bar(strings.Join(parts, "  "), term.Bold)
}

// second is the line below the title: why the picture is old, or how it is ordered.
func (m *Model) second() term.Line {
	switch {
	case m.trouble != "" && m.known:
		return m.Bar(fmt.Sprintf("OLD for %s: %s", max(m.seen.Sub(m.began), 0).Round(time.Second), m.trouble),
			term.Red|term.Bold)
	case m.trouble != "":
		return m.Bar("no answer yet: "+m.trouble, term.Red|term.Bold)
	case !m.known:
		return listview.Plain("waiting for the first answer")
	case m.Page == listview.PageList:
		return listview.Plain(m.ShownAs())
	}
	return nil
}

func (m *Model) footer() string {
	switch {
	case m.Typing:
		return "type a text; Enter keeps it, Esc shows all"
	case m.Page == listview.PageHelp:
		return "any key: back"
	case m.Page == listview.PageDetail:
		return "Esc back  Up Down scroll"
	}
	return "?:keys Enter:details /:filter <>:sort r:reverse g:groups q:quit"
}

// room is how many rows of the table there are: three quarters of the screen at most. What pools do
// not need is for the tail; a filter moves nothing.
func (m *Model) room() int {
	left := m.Height - 5 // title, second, header, header of the tail, footer
	return max(1, min(left-max(1, left/4), max(len(m.Rows), len(m.pools))))
}

// layout are the columns that there is room for, with the width of each.
func (m *Model) layout() []listview.Column[row] {
	cs := slices.Clone(m.Columns)
	left := m.Width
	for _, c := range cs {
		left -= c.Width + 1
	}
	if left < 20 { // for the model: less says little
		cs = slices.Delete(cs, 4, 5) // leases
		left += 7
	}
	if left < 8 {
		cs[0].Width, cs[1].Width, left = cs[0].Width-4, cs[1].Width-4, left+8
	}
	if wide := (left - 40) / 3; wide > 0 {
		cs[0].Width, cs[1].Width, left = cs[0].Width+min(wide, 16), cs[1].Width+min(wide, 22), left-min(wide, 16)-
			min(wide, 22)
	}
	cs[len(cs)-1].Width = max(0, left+1)
	return cs
}

// table is the header and the visible rows.
func (m *Model) table() []term.Line {
	cs, none := m.layout(), ""
	if m.known {
		none = "no host has a pool"
	}
	return append([]term.Line{m.Header(cs)}, m.Body(m.room(), none, func(r *row, on term.Style) term.Line {
		return r.line(cs, on)
	})...)
}

// line is the row in a style.
func (r *row) line(cs []listview.Column[row], on term.Style) term.Line {
	var line term.Line
	for i, c := range cs {
		style, text := on, ""
		switch {
		case r.pool != nil:
			if text = c.Cell(r); c.Name == "state" {
				style |= listview.StateStyle(text)
			}
			if i == 0 && r.below {
				text = "  " + text
			}
		case c.Name == "host":
			line = append(line, term.Span{Text: term.Left(r.mark(), c.Width+1+cs[1].Width), Style: on | term.Bold})
			continue
		case c.Name == "pool":
			continue
		case c.Name == "state":
			text = fmt.Sprintf("%d ready", r.ready)
		case c.Name != "model":
			text = c.Cell(r)
		}
		line = append(line, listview.Gap(i, on), term.Span{Text: c.Align(text), Style: style})
	}
	return line
}

// mark is a group with how many pools it has, and whether they are shown.
func (r *row) mark() string {
	if r.folded {
		return fmt.Sprintf("+ (%d) %s", r.members, r.label)
	}
	return fmt.Sprintf("- (%d) %s", r.members, r.label)
}

// tail is the header and the newest changes that there is room for.
func (m *Model) tail() []term.Line {
	lines := []term.Line{m.Bar("CHANGES", 0)}
	room := max(1, m.Height-5-m.room())
	for _, e := range m.events[max(0, len(m.events)-room):] {
		var style term.Style
		if e.bad {
			style = term.Yellow
		}
		lines = append(lines, term.Line{{Text: m.clock(e.at) + " "}, {Text: term.Left(e.kind, 8), Style: style},
			{Text: " " + e.text}})
	}
	return lines
}

// detailPage is what is known of a pool and its host.
func (m *Model) detailPage() []term.Line {
	p := m.pools[m.detail]
	if p == nil {
		return []term.Line{m.Bar("", 0), listview.Plain("this pool is gone")}
	}
	facts := listview.Facts{Width: m.Width}
	add := facts.Add
	r := rowOf(m.detail, p)
	add("State", r.state(), listview.StateStyle(r.state()))
	add("Error", p.LastError, term.Bold)
	add("Hint", p.Hint, 0)
	add("Model", p.ModelID, 0)
	add("Engine", strings.TrimSpace(p.Engine+" "+p.EngineVersion), 0)
	add("Devices", strings.Join(p.DeviceMask, " "), 0)
	add("Work", fmt.Sprintf("slots %s, leases %d", r.slots(), p.ActiveLeases), 0)
	add("Restarts", fmt.Sprint(p.RestartCount), 0)
	for _, e := range p.Replicas {
		add("Replica "+e.ID, strings.TrimSpace(strings.Join([]string{e.State, e.Endpoint,
			strings.Join(e.DeviceMask, " ")}, "  ")), 0)
	}
	h := m.hosts[p.MachineID]
	add("Host", strings.TrimSpace(h.Name+"  "+h.Address), 0)
	add("Machine-id", h.MachineID, 0)
	add("Version", h.Version, 0)
	room := m.Height - 4 // title, second, the name, footer
	return append([]term.Line{m.Bar("POOL "+p.ID+" ON "+p.Node, 0)}, m.Visible(facts.Lines, room)...)
}
