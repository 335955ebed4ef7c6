// Package listviewtest has what the tests of poolctl's live views share: keys as words, and screens
// as text.
package listviewtest

import (
	"regexp"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
)

// View is a live view.
type View interface {
	Update(happened any) []any
	View() []term.Line
}

// After has things happen to a view, keys among them, one word each, and returns what is to be done
// then, of all of them.
func After(v View, happened ...any) (effects []any) {
	for _, h := range happened {
		keys, is := h.(string)
		if !is {
			effects = append(effects, v.Update(h)...)
			continue
		}
		for k := range strings.FieldsSeq(keys) {
			effects = append(effects, v.Update(term.Key(k))...)
		}
	}
	return effects
}

// Drawn is a screen of that width as text; with styles, these are shown as they are sent, the ESC
// as a "^".
func Drawn(v View, width int, styles, colour bool) string {
	var b strings.Builder
	for _, line := range v.View() {
		p := term.Painter{Colour: colour, UTF8: true}
		sent := string(p.Paint([]term.Line{line}, width, 1))
		sent = strings.TrimPrefix(strings.TrimPrefix(sent, "\x1b[0m\x1b[2J"), "\x1b[1;1H")
		if !styles {
			sent = sequence.ReplaceAllString(sent, "")
		}
		b.WriteString(strings.TrimRight(strings.ReplaceAll(sent, "\x1b", "^"), " ") + "\n")
	}
	return b.String()
}

var sequence = regexp.MustCompile("\x1b\\[[0-9;]*m")
