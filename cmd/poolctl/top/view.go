package top

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry"
)

// The least terminal that shows something useful.
const (
	leastWidth  = 60
	leastHeight = 12
)

// View returns the screen, one line for each of the terminal.
func (m *Model) View() []term.Line {
	if m.size.Width < leastWidth || m.size.Height < leastHeight {
		return []term.Line{plain(fmt.Sprintf("%dx%d is too small; want %dx%d", m.size.Width, m.size.Height,
			leastWidth, leastHeight))}
	}
	lines := []term.Line{m.title(), m.second()}
	switch m.page {
	case pageHelp:
		lines = append(lines, m.helpPage()...)
	case pageDetail:
		lines = append(lines, m.detailPage()...)
	default:
		lines = append(lines, m.table()...)
		lines = append(lines, m.gpus()...)
		lines = append(lines, m.tail()...)
	}
	for len(lines) < m.size.Height-1 {
		lines = append(lines, nil)
	}
	return append(lines[:m.size.Height-1], m.footer())
}

func plain(text string) term.Line { return term.Line{{Text: text}} }

// bar is a line in reverse over the whole width.
func (m *Model) bar(text string, style term.Style) term.Line {
	return term.Line{{Text: term.Left(text, m.size.Width), Style: term.Reverse | style}}
}

// title sums everything up.
func (m *Model) title() term.Line {
	if !m.known {
		return m.bar(m.host, term.Bold)
	}
	ready, bad, used, total := 0, 0, 0, 0
	for i := range m.picture.Pools.Pools {
		p := &m.picture.Pools.Pools[i]
		if p.Ready {
			ready++
		} else if Troubled(p.State) {
			bad++
		}
		f := m.figures[p.ID]
		used, total = used+f.used, total+f.total
	}
	parts := []string{term.Cut(m.host, 24), m.clock(m.picture.At),
		fmt.Sprintf("%d of %d ready", ready, len(m.picture.Pools.Pools))}
	if bad > 0 {
		parts = append(parts, fmt.Sprintf("%d in trouble", bad))
	}
	parts = append(parts, fmt.Sprintf("slots %d/%d", used, total))
	if n := len(m.picture.Devices.Devices); n > 0 {
		parts = append(parts, fmt.Sprintf("GPUs %d", n))
	}
	if n := len(m.picture.Pools.Problems); n > 0 {
		parts = append(parts, fmt.Sprintf("wrong files %d", n))
	}
	return m.bar(strings.Join(parts, "  "), term.Bold)
}

// second is the line below the title: what is wrong with the picture, or how it is ordered.
func (m *Model) second() term.Line {
	switch {
	case m.trouble != nil && m.known:
		return m.bar(fmt.Sprintf("OLD: as of %s, no answer for %s: %s", m.clock(m.picture.At),
			span(m.trouble.At.Sub(m.began)), m.trouble.Text), term.Red|term.Bold)
	case m.trouble != nil:
		return m.bar("no answer yet: "+m.trouble.Text, term.Red|term.Bold)
	case !m.known:
		return plain("waiting for the first answer")
	case m.page == pageList:
		return plain(m.shownAs())
	}
	return nil
}

func span(d time.Duration) string { return max(d, 0).Round(time.Second).String() }

func (m *Model) clock(at time.Time) string { return at.In(m.zone).Format(time.TimeOnly) }

// footer is a question, what became of the last action, or the keys.
func (m *Model) footer() term.Line {
	switch {
	case m.ask != nil:
		return m.bar(fmt.Sprintf("%s %s? (y/n) %s", m.ask.Verb, m.ask.Pool, consequence(m.ask.Verb)), term.Bold)
	case m.note != "" && m.noteBad:
		return term.Line{{Text: m.note, Style: term.Bold | term.Red}}
	case m.note != "":
		return term.Line{{Text: m.note, Style: term.Bold}}
	case m.typing:
		return plain("type a text; Enter keeps it, Esc shows all")
	case m.page == pageHelp:
		return plain("any key: back")
	case m.page == pageDetail:
		return plain("Esc back  Up Down scroll  D drain  S resume  L reload  X reset")
	}
	return plain("?:keys Enter:details /:filter <>:sort g:groups D:drain S:resume X:reset q:quit")
}

// parts divides the lines of the list page: those of GPUs with their header, and of pools.
func (m *Model) parts() (gpus, pools int) {
	left := m.size.Height - 4                                 // title, second, header, footer
	needed := max(1, len(m.rows), len(m.picture.Pools.Pools)) // a filter moves nothing
	if n := m.gpuRows(); n > 0 {
		gpus = 1 + min(n, max(1, left/5, left-1-needed-leastTail(left)))
	}
	return gpus, min(max(1, left-gpus-leastTail(left)), needed)
}

// leastTail is how many lines the tail of events has at least, with its header. What pools do not
// need is for it, too.
func leastTail(left int) int { return 1 + max(1, left/5) }

// Troubled reports whether a pool in this state needs someone to look at it.
func Troubled(state string) bool {
	switch registry.State(state) {
	case registry.StateUnhealthy, registry.StateBackoff, registry.StateWaiting, registry.StateFailed,
		registry.StateRefused, registry.StateInvalid:
		return true
	}
	return false
}

// StateStyle shows a state; without colours, those in trouble are bold.
func StateStyle(state string) term.Style {
	switch registry.State(state) {
	case registry.StateReady:
		return term.Green
	case registry.StateUnhealthy, registry.StateBackoff, registry.StateWaiting:
		return term.Yellow | term.Bold
	case registry.StateFailed, registry.StateRefused, registry.StateInvalid:
		return term.Red | term.Bold
	case registry.StateDraining, registry.StateStopping, registry.StateStopped:
		return 0
	}
	return term.Cyan
}

// dropped are the columns that a narrow terminal has no room for, the first one first.
func dropped() []string { return []string{"pressure", "first token", "RAM", "tokens", "VRAM"} }

// The widths of a pool's name, and of engine, model and error together, of which fewer columns show
// nothing.
const (
	leastName    = 16
	mostName     = 40
	leastFurther = 30
)

// layout are the columns that there is room for, and what is left of the terminal beside them: for
// engine, model and error.
func (m *Model) layout() (cs []column, rest int) {
	cs = columns()
	left := m.size.Width
	for _, c := range cs[1:] {
		left -= 1 + c.width
	}
	for _, name := range dropped() {
		if left < leastName {
			at := slices.IndexFunc(cs, func(c column) bool { return c.name == name })
			left += 1 + cs[at].width
			cs = slices.Delete(cs, at, at+1)
		}
	}
	if left < mostName+leastFurther {
		cs[0].width = left
		return cs, 0
	}
	cs[0].width = mostName
	return cs, left - mostName
}

// table is the header and the visible rows of pools.
func (m *Model) table() []term.Line {
	cs, rest := m.layout()
	lines := []term.Line{m.header(cs, rest)}
	_, visible := m.parts()
	for i := range visible {
		at := m.top + i
		switch {
		case at < len(m.rows):
			lines = append(lines, m.line(&m.rows[at], cs, rest, at == m.at))
		case i == 0 && m.known && m.filter != "":
			lines = append(lines, plain("no pool has "+m.filter+" in it; Esc shows all"))
		case i == 0 && m.known:
			lines = append(lines, plain("no pools; a file in /etc/pool-managerd/pools.d makes one"))
		default:
			lines = append(lines, nil)
		}
	}
	return lines
}

// header marks the column of the order.
func (m *Model) header(cs []column, rest int) term.Line {
	var line term.Line
	for i, c := range cs {
		style := term.Reverse
		if c.name == columns()[m.sort].name {
			style |= term.Bold
		}
		line = append(line, gap(i, term.Reverse), term.Span{Text: align(c, c.title), Style: style})
	}
	title := ""
	if rest > 0 {
		title = " " + further("ENGINE", "MODEL", "ERROR", rest)
	}
	return append(line, term.Span{Text: term.Left(title, rest), Style: term.Reverse})
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
func (m *Model) line(r *row, cs []column, rest int, selected bool) term.Line {
	var on term.Style
	if selected {
		on = term.Reverse
	}
	var line term.Line
	for i, c := range cs {
		text, style := c.cell(r), on
		switch {
		case i == 0:
			text = r.mark() + text
		case c.name == "state":
			style |= StateStyle(text)
		}
		line = append(line, gap(i, on), term.Span{Text: align(c, text), Style: style})
	}
	if rest > 0 {
		line = append(line, term.Span{Text: term.Left(" "+r.further(rest), rest), Style: on})
	}
	return line
}

// mark shows where a row belongs, and whether there are rows below it.
func (r *row) mark() string {
	mark := "  "
	switch {
	case r.pool == nil && r.folded:
		return fmt.Sprintf("+ (%d) ", r.members)
	case r.pool == nil:
		return fmt.Sprintf("- (%d) ", r.members)
	case r.folds && r.folded && len(r.pool.Replicas) > 1:
		mark = "+ "
	case r.folds && !r.folded:
		mark = "- "
	}
	return strings.Repeat("  ", r.depth) + mark
}

// further are the words that a wide terminal has room for.
func (r *row) further(width int) string {
	switch {
	case r.pool == nil:
		return ""
	case r.replica != nil:
		return further(r.pool.Engine, deref(r.replica.Endpoint), r.replica.Reason, width)
	}
	return further(r.pool.Engine, deref(r.pool.ModelID), deref(r.pool.LastError), width)
}

func further(engine, model, why string, width int) string {
	return term.Left(engine, 9) + " " + term.Left(model, max(0, (width-11)/2)) + " " + why
}
