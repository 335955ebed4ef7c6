package main

import (
	"strings"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/registry"
)

// colourOf is how a terminal shows a state or a health, as parameters of SGR (ECMA-48); empty: as
// any text. Those in trouble are bold, too, for those who do not see the colour.
func colourOf(word string) string {
	switch registry.State(word) {
	case registry.StateReady:
		return "32"
	case registry.StateUnhealthy, registry.StateBackoff, registry.StateWaiting:
		return "1;33"
	case registry.StateFailed, registry.StateRefused, registry.StateInvalid:
		return "1;31"
	case registry.StateStaging, registry.StatePreparing, registry.StateStarting, registry.StateProbing:
		return "36"
	}
	switch registry.Health(word) {
	case registry.HealthOK:
		return "32"
	case registry.HealthDegraded, registry.HealthUnknown:
		return "1;33"
	case registry.HealthReset, registry.HealthLost, registry.HealthHost:
		return "1;31"
	}
	return ""
}

// coloured colours the first word at a place of a line, counted in characters.
func coloured(line string, at int) string {
	runes := []rune(line)
	if at < 0 || at >= len(runes) {
		return line
	}
	rest := string(runes[at:])
	word := rest
	if end := strings.IndexAny(rest, " ,;\n"); end >= 0 {
		word = rest[:end]
	}
	style := colourOf(word)
	if style == "" {
		return line
	}
	return string(runes[:at]) + "\x1b[" + style + "m" + word + "\x1b[0m" + rest[len(word):]
}

// inColour colours the states of a table that is laid out already: a column that is headed so, or
// the value of that name.
func inColour(text string) string {
	var b strings.Builder
	column := -1
	for i, line := range strings.SplitAfter(text, "\n") {
		if i == 0 {
			column = max(strings.Index(line, "  STATE "), strings.Index(line, "  HEALTH ")) + len("  ")
			if column < len("  ") {
				column = -1
			}
		} else if column >= 0 {
			line = coloured(line, column)
		}
		if value, is := strings.CutPrefix(line, "State:"); is {
			line = coloured(line, len(line)-len(strings.TrimLeft(value, " ")))
		}
		b.WriteString(line)
	}
	return b.String()
}

// markColours are those of the steps' marks of explain; others are as any text.
var markColours = map[string]string{"  ok ": "32", "  now": "36", "  NO ": "1;31"}

// marksInColour colours the marks of steps, and the states above them.
func marksInColour(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if mark := line[:min(len(line), len("  now"))]; markColours[mark] != "" {
			line = "  \x1b[" + markColours[mark] + "m" + strings.TrimSpace(mark) + "\x1b[0m" +
				strings.TrimPrefix(line, "  "+strings.TrimSpace(mark))
		} else if _, state, found := strings.Cut(line, ": "); found && !strings.HasPrefix(line, " ") {
			line = coloured(line, utf8.RuneCountInString(line)-utf8.RuneCountInString(state))
		}
		b.WriteString(line)
	}
	return b.String()
}
