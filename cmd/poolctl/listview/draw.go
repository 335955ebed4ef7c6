package listview

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry"
)

// The least terminal that shows something useful.
const (
	leastWidth  = 60
	leastHeight = 12
)

// Fits reports whether there is room for a view.
func (s Size) Fits() bool { return s.Width >= leastWidth && s.Height >= leastHeight }

// TooSmall is the screen where there is not.
func (s Size) TooSmall() []term.Line {
	return []term.Line{Plain(fmt.Sprintf("%dx%d is too small; want %dx%d", s.Width, s.Height, leastWidth, leastHeight))}
}

// Screen is lines on the whole terminal, with a footer on its last line.
func (s Size) Screen(lines []term.Line, footer term.Line) []term.Line {
	for len(lines) < s.Height-1 {
		lines = append(lines, nil)
	}
	return append(lines[:s.Height-1], footer)
}

// Plain is a line of text.
func Plain(text string) term.Line { return term.Line{{Text: text}} }

// Bar is a line in reverse over the whole width.
func (s Size) Bar(text string, style term.Style) term.Line {
	return term.Line{{Text: term.Left(text, s.Width), Style: term.Reverse | style}}
}

// Help is the page of keys, in a column of that width, with notes below it.
func (s Size) Help(keys [][2]string, width int, notes ...string) []term.Line {
	lines := []term.Line{s.Bar("KEYS", 0)}
	for _, k := range keys {
		for i, text := range term.Wrap(k[1], s.Width-width) {
			name := ""
			if i == 0 {
				name = "  " + k[0]
			}
			lines = append(lines, term.Line{{Text: term.Left(name, width), Style: term.Bold}, {Text: text}})
		}
	}
	for _, note := range notes {
		for _, text := range term.Wrap(note, s.Width-4) {
			lines = append(lines, Plain("  "+text))
		}
	}
	return lines
}

// Facts are lines of names and values.
type Facts struct {
	Width int // of the terminal
	Lines []term.Line
}

// Add adds a fact, on several lines where its value is long, on none where it is empty.
func (f *Facts) Add(name, value string, style term.Style) {
	const names = 12
	for i, text := range term.Wrap(value, f.Width-names) {
		if i > 0 {
			name = ""
		}
		f.Lines = append(f.Lines, term.Line{{Text: term.Left(name, names)}, {Text: text, Style: style}})
	}
}

// Visible are the facts that there is room for, from where the page was scrolled to.
func (l *List[R]) Visible(facts []term.Line, room int) []term.Line {
	l.Scroll = max(0, min(l.Scroll, len(facts)-room))
	return facts[l.Scroll:min(len(facts), l.Scroll+room)]
}

// ShownAs describes order, groups and filter for the line below the title.
func (l *List[R]) ShownAs() string {
	parts := []string{"by " + l.Sorted()}
	if l.reverse {
		parts[0] += " (reverse)"
	}
	if l.Group > 0 {
		parts = append(parts, "grouped by "+l.Groups[l.Group])
	}
	switch {
	case l.Typing:
		parts = append(parts, "only with: "+l.Filter+"_")
	case l.Filter != "":
		parts = append(parts, "only with: "+l.Filter)
	}
	return strings.Join(parts, ", ")
}

// Header is the titles of these columns; that of the order is bold.
func (l *List[R]) Header(columns []Column[R]) term.Line {
	var line term.Line
	for i, c := range columns {
		style := term.Reverse
		if c.Name == l.Sorted() {
			style |= term.Bold
		}
		line = append(line, Gap(i, term.Reverse), term.Span{Text: c.Align(c.Title), Style: style})
	}
	return line
}

// Body is the visible rows, each as draw has it; the selected one is in reverse. none is what is
// shown where there is no row at all.
func (l *List[R]) Body(room int, none string, draw func(r *R, on term.Style) term.Line) []term.Line {
	lines := make([]term.Line, room)
	for i := range lines {
		switch at := l.First + i; {
		case at < len(l.Rows) && at == l.At:
			lines[i] = draw(&l.Rows[at], term.Reverse)
		case at < len(l.Rows):
			lines[i] = draw(&l.Rows[at], 0)
		case i == 0 && none != "" && l.Filter != "":
			lines[i] = Plain("no pool has " + l.Filter + " in it; Esc shows all")
		case i == 0 && none != "":
			lines[i] = Plain(none)
		}
	}
	return lines
}

// Gap is what is before a column.
func Gap(i int, style term.Style) term.Span {
	if i == 0 {
		return term.Span{}
	}
	return term.Span{Text: " ", Style: style}
}

// Align is a text in the width of its column.
func (c Column[R]) Align(text string) string {
	if c.Left {
		return term.Left(text, c.Width)
	}
	return term.Right(text, c.Width)
}

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
