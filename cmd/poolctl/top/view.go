package top

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
	lines := []term.Line{m.title(), m.second()}
	switch m.Page {
	case listview.PageHelp:
		lines = append(lines, m.Help(help(), 16,
			"REQS: requests that the engines work on. TOK/S and FIRST: tokens a second and the time to the first one.",
			"RAM: main memory, page cache included. PRES: share of the last 10 s in which a task waited for memory. "+
				"RST: restarts.")...)
	case listview.PageDetail:
		lines = append(lines, m.detailPage()...)
	default:
		lines = append(lines, m.table()...)
		lines = append(lines, m.gpus()...)
		lines = append(lines, m.tail()...)
	}
	return m.Screen(lines, m.footer())
}

// title sums everything up.
func (m *Model) title() term.Line {
	if !m.known {
		return m.Bar(m.host, term.Bold)
	}
	ready, bad, used, total := 0, 0, 0, 0
	for i := range m.picture.Pools.Pools {
		p := &m.picture.Pools.Pools[i]
		if p.Ready {
			ready++
		} else if listview.Troubled(p.State) {
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
	return m.Bar(strings.Join(parts, "  "), term.Bold)
}

// second is the line below the title: what is wrong with the picture, or how it is ordered.
func (m *Model) second() term.Line {
	switch {
	case m.trouble != nil && m.known:
		return m.Bar(fmt.Sprintf("OLD: as of %s, no answer for %s: %s", m.clock(m.picture.At),
			span(m.trouble.At.Sub(m.began)), m.trouble.Text), term.Red|term.Bold)
	case m.trouble != nil:
		return m.Bar("no answer yet: "+m.trouble.Text, term.Red|term.Bold)
	case !m.known:
		return listview.Plain("waiting for the first answer")
	case m.Page == listview.PageList:
		return listview.Plain(m.ShownAs())
	}
	return nil
}

func span(d time.Duration) string { return max(d, 0).Round(time.Second).String() }

func (m *Model) clock(at time.Time) string { return at.In(m.zone).Format(time.TimeOnly) }

// footer is a question, what became of the last action, or the keys.
func (m *Model) footer() term.Line {
	switch {
	case m.ask != nil:
		return m.Bar(fmt.Sprintf("%s %s? (y/n) %s", m.ask.Verb, m.ask.Pool, consequence(m.ask.Verb)), term.Bold)
	case m.note != "" && m.noteBad:
		return term.Line{{Text: m.note, Style: term.Bold | term.Red}}
	case m.note != "":
		return term.Line{{Text: m.note, Style: term.Bold}}
	case m.Typing:
		return listview.Plain("type a text; Enter keeps it, Esc shows all")
	case m.Page == listview.PageHelp:
		return listview.Plain("any key: back")
	case m.Page == listview.PageDetail:
		return listview.Plain("Esc back  Up Down scroll  D drain  S resume  L reload  X reset")
	}
	return listview.Plain("?:keys Enter:details /:filter <>:sort g:groups D:drain S:resume X:reset q:quit")
}

// parts divides the lines of the list page: those of GPUs with their header, and of pools.
func (m *Model) parts() (gpus, pools int) {
	left := m.Height - 4                                      // title, second, header, footer
	needed := max(1, len(m.Rows), len(m.picture.Pools.Pools)) // a filter moves nothing
	if n := m.gpuRows(); n > 0 {
		gpus = 1 + min(n, max(1, left/5, left-1-needed-leastTail(left)))
	}
	return gpus, min(max(1, left-gpus-leastTail(left)), needed)
}

// leastTail is how many lines the tail of events has at least, with its header. What pools do not
// need is for it, too.
func leastTail(left int) int { return 1 + max(1, left/5) }

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
func (m *Model) layout() (cs []listview.Column[row], rest int) {
	cs = slices.Clone(m.Columns)
	left := m.Width
	for _, c := range cs[1:] {
		left -= 1 + c.Width
	}
	for _, name := range dropped() {
		if left < leastName {
			at := slices.IndexFunc(cs, func(c listview.Column[row]) bool { return c.Name == name })
			left += 1 + cs[at].Width
			cs = slices.Delete(cs, at, at+1)
		}
	}
	if left < mostName+leastFurther {
		cs[0].Width = left
		return cs, 0
	}
	cs[0].Width = mostName
	return cs, left - mostName
}

// table is the header and the visible rows of pools.
func (m *Model) table() []term.Line {
	cs, rest := m.layout()
	title, none := "", ""
	if rest > 0 {
		title = " " + further("ENGINE", "MODEL", "ERROR", rest)
	}
	if m.known {
		none = "no pools; a file in /etc/pool-managerd/pools.d makes one"
	}
	_, visible := m.parts()
	head := append(m.Header(cs), term.Span{Text: term.Left(title, rest), Style: term.Reverse})
	return append([]term.Line{head}, m.Body(visible, none, func(r *row, on term.Style) term.Line {
		return r.line(cs, rest, on)
	})...)
}

// line is the row in a style.
func (r *row) line(cs []listview.Column[row], rest int, on term.Style) term.Line {
	var line term.Line
	for i, c := range cs {
		text, style := c.Cell(r), on
		switch {
		case i == 0:
			text = r.mark() + text
		case c.Name == "state":
			style |= listview.StateStyle(text)
		}
		line = append(line, listview.Gap(i, on), term.Span{Text: c.Align(text), Style: style})
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
