// Package term draws whole screens on a terminal and reads its keys.
//
// It owns the escape sequences that poolctl sends, the ones that keys send, and the state of the
// terminal, which is as before when it is left. It uses what a VT100 and the Linux console have:
// positions, bold, reverse and eight colours; it asks the terminal nothing. It must not know what
// is shown. Text is made safe here once more: no control character of a span is sent.
package term

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
)

// Style is how text looks. A terminal without colours shows the others.
type Style uint8

// The styles; they are combined by or. Of the colours, one.
const (
	Bold Style = 1 << iota
	Reverse
	Red
	Green
	Yellow
	Cyan
)

// Span is text of one style.
type Span struct {
	Text  string
	Style Style
}

// Line is one line of a screen.
type Line []Span

// Painter knows what a terminal shows, and what has to be sent for it to show something else.
type Painter struct {
	Colour bool // the terminal has colours, and they are wanted
	UTF8   bool // it shows more than ASCII

	width, height int
	shown         []string
}

// Forget has the next screen sent as a whole.
func (p *Painter) Forget() { p.shown = nil }

// Paint returns what to send for the terminal to show the lines: the lines that differ from those
// shown, each as a whole. It is empty where nothing differs.
func (p *Painter) Paint(lines []Line, width, height int) []byte {
	var b bytes.Buffer
	if p.shown == nil || width != p.width || height != p.height {
		b.WriteString("\x1b[0m\x1b[2J")
		p.width, p.height, p.shown = width, height, make([]string, height)
		for i := range p.shown {
			p.shown[i] = strings.Repeat(" ", width)
		}
	}
	for i := range p.shown {
		var line Line
		if i < len(lines) {
			line = lines[i]
		}
		if text := p.encode(line); text != p.shown[i] {
			fmt.Fprintf(&b, "\x1b[%d;1H%s", i+1, text)
			p.shown[i] = text
		}
	}
	return b.Bytes()
}

// encode returns a line of the terminal's width. It is filled with spaces: a sequence that erases
// the rest of a line would erase the last character of a full one.
func (p *Painter) encode(line Line) string {
	var b strings.Builder
	left := p.width
	for _, s := range line {
		text := Cut(p.safe(s.Text), left)
		if left -= Width(text); text == "" {
			continue
		}
		on := p.sequence(s.Style)
		b.WriteString(on + text)
		if on != "" {
			b.WriteString("\x1b[0m")
		}
	}
	b.WriteString(strings.Repeat(" ", left))
	return b.String()
}

func (p *Painter) safe(text string) string {
	text = safe.Line(text)
	if p.UTF8 {
		return text
	}
	return strings.Map(func(r rune) rune {
		if r > 0x7e {
			return '?'
		}
		return r
	}, text)
}

// sequence is what turns a style on (ECMA-48, select graphic rendition).
func (p *Painter) sequence(s Style) string {
	var codes []string
	for _, c := range []struct {
		style  Style
		code   string
		colour bool
	}{{Bold, "1", false}, {Reverse, "7", false}, {Red, "31", true}, {Green, "32", true}, {Yellow, "33", true},
		{Cyan, "36", true}} {
		if s&c.style != 0 && (p.Colour || !c.colour) {
			codes = append(codes, c.code)
		}
	}
	if codes == nil {
		return ""
	}
	return "\x1b[" + strings.Join(codes, ";") + "m"
}
