package fleettop

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/top"
)

// The least terminal that shows something useful.
const (
	leastWidth  = 60
	leastHeight = 12
)

// View returns the screen, one line for each of the terminal.
func (m *Model) View() []term.Line {
	if m.size.Width < leastWidth || m.size.Height < leastHeight {
		return []term.Line{plain(fmt.Sprintf("%dx%d is too small; want %dx%d", m.size.Width, m.size.Height, leastWidth,
			leastHeight))}
	}
	m.layOut()
	lines := []term.Line{m.title(), m.second()}
	switch m.page {
	case pageHelp:
		lines = append(lines, m.helpPage()...)
	case pageDetail:
		lines = append(lines, m.detailPage()...)
	default:
		lines = append(lines, m.table()...)
		lines = append(lines, m.tail()...)
	}
	for len(lines) < m.size.Height-1 {
		lines = append(lines, nil)
	}
	return append(lines[:m.size.Height-1], plain(m.footer()))
}

func plain(text string) term.Line { return term.Line{{Text: text}} }

// bar is a line in reverse over the whole width.
func (m *Model) bar(text string, style term.Style) term.Line {
	return term.Line{{Text: term.Left(text, m.size.Width), Style: term.Reverse | style}}
}

func (m *Model) clock(at time.Time) string { return at.In(m.zone).Format(time.TimeOnly) }

// title sums everything up.
func (m *Model) title() term.Line {
	if !m.known {
		return m.bar(m.name, term.Bold)
	}
	all, bad := row{}, 0
	for key, p := range m.pools {
		r := rowOf(key, p)
		all.members, all.ready = all.members+1, all.ready+r.ready
		all.used, all.total = all.used+r.used, all.total+r.total
		if !p.Ready && top.Troubled(p.State) {
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
	return m.bar(strings.Join(parts, "  "), term.Bold)
}

// second is the line below the title: why the picture is old, or how it is ordered.
func (m *Model) second() term.Line {
	switch {
	case m.trouble != "" && m.known:
		return m.bar(fmt.Sprintf("OLD for %s: %s", max(m.seen.Sub(m.began), 0).Round(time.Second), m.trouble),
			term.Red|term.Bold)
	case m.trouble != "":
		return m.bar("no answer yet: "+m.trouble, term.Red|term.Bold)
	case !m.known:
		return plain("waiting for the first answer")
	case m.page == pageList:
		return plain(m.shownAs())
	}
	return nil
}

func (m *Model) footer() string {
	switch {
	case m.typing:
		return "type a text; Enter keeps it, Esc shows all"
	case m.page == pageHelp:
		return "any key: back"
	case m.page == pageDetail:
		return "Esc back  Up Down scroll"
	}
	return "?:keys Enter:details /:filter <>:sort r:reverse g:groups q:quit"
}

// room is how many rows of the table there are: three quarters of the screen at most. What pools do
// not need is for the tail; a filter moves nothing.
func (m *Model) room() int {
	left := m.size.Height - 5 // title, second, header, header of the tail, footer
	return max(1, min(left-max(1, left/4), max(len(m.rows), len(m.pools))))
}

// layout are the columns that there is room for, with the width of each.
func (m *Model) layout() []column {
	cs := columns()
	left := m.size.Width
	for _, c := range cs {
		left -= c.width + 1
	}
	if left < 20 { // for the model: less says little
		cs = slices.Delete(cs, 4, 5) // leases
		left += 7
	}
	if left < 8 {
		cs[0].width, cs[1].width, left = cs[0].width-4, cs[1].width-4, left+8
	}
	if wide := (left - 40) / 3; wide > 0 {
		cs[0].width, cs[1].width, left = cs[0].width+min(wide, 16), cs[1].width+min(wide, 22), left-min(wide, 16)-
			min(wide, 22)
	}
	cs[len(cs)-1].width = max(0, left+1)
	return cs
}

// table is the header and the visible rows.
func (m *Model) table() []term.Line {
	cs := m.layout()
	var head term.Line
	for i, c := range cs {
		style := term.Reverse
		if c.name == columns()[m.sort].name {
			style |= term.Bold
		}
		head = append(head, gap(i, term.Reverse), term.Span{Text: align(c, c.title), Style: style})
	}
	lines := []term.Line{head}
	for i := range m.room() {
		switch at := m.first + i; {
		case at < len(m.rows):
			lines = append(lines, m.line(&m.rows[at], cs, at == m.on))
		case i == 0 && m.known && m.filter != "":
			lines = append(lines, plain("no pool has "+m.filter+" in it; Esc shows all"))
		case i == 0 && m.known:
			lines = append(lines, plain("no host has a pool"))
		default:
			lines = append(lines, nil)
		}
	}
	return lines
}

// gap is what is before a column.
func gap(i int, style term.Style) term.Span {
	if i == 0 {
		return term.Span{}
	}
	return term.Span{Text: " ", Style: style}
}

func align(c column, text string) string {
	if c.left {
		return term.Left(text, c.width)
	}
	return term.Right(text, c.width)
}

// line is one row. The selected one is in reverse.
func (m *Model) line(r *row, cs []column, selected bool) term.Line {
	var on term.Style
	if selected {
		on = term.Reverse
	}
	var line term.Line
	for i, c := range cs {
		style, text := on, ""
		switch {
		case r.pool != nil:
			if text = c.cell(r); c.name == "state" {
				style |= top.StateStyle(text)
			}
			if i == 0 && r.below {
				text = "  " + text
			}
		case c.name == "host":
			line = append(line, term.Span{Text: term.Left(r.mark(), c.width+1+cs[1].width), Style: on | term.Bold})
			continue
		case c.name == "pool":
			continue
		case c.name == "state":
			text = fmt.Sprintf("%d ready", r.ready)
		case c.name != "model":
			text = c.cell(r)
		}
		line = append(line, gap(i, on), term.Span{Text: align(c, text), Style: style})
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
	lines := []term.Line{m.bar("CHANGES", 0)}
	room := max(1, m.size.Height-5-m.room())
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

func (m *Model) helpPage() []term.Line {
	lines := []term.Line{m.bar("KEYS", 0)}
	for _, k := range help() {
		for i, text := range term.Wrap(k[1], m.size.Width-18) {
			name := ""
			if i == 0 {
				name = "  " + k[0]
			}
			lines = append(lines, term.Line{{Text: term.Left(name, 18), Style: term.Bold}, {Text: text}})
		}
	}
	for _, l := range term.Wrap("SLOTS: in use, of all. RST: restarts. A pool is operated at its host: poolctl --host.",
		m.size.Width-4) {
		lines = append(lines, plain("  "+l))
	}
	return lines
}

// detailPage is what is known of a pool and its host.
func (m *Model) detailPage() []term.Line {
	p := m.pools[m.detail]
	if p == nil {
		return []term.Line{m.bar("", 0), plain("this pool is gone")}
	}
	const names = 12
	var facts []term.Line
	add := func(name, value string, style term.Style) {
		for i, text := range term.Wrap(value, m.size.Width-names) {
			if i > 0 {
				name = ""
			}
			facts = append(facts, term.Line{{Text: term.Left(name, names)}, {Text: text, Style: style}})
		}
	}
	r := rowOf(m.detail, p)
	add("State", r.state(), top.StateStyle(r.state()))
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
	room := m.size.Height - 4 // title, second, the name, footer
	m.scroll = max(0, min(m.scroll, len(facts)-room))
	return append([]term.Line{m.bar("POOL "+p.ID+" ON "+p.Node, 0)},
		facts[m.scroll:min(len(facts), m.scroll+room)]...)
}
