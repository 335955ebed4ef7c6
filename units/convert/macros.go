package convert

import (
	"fmt"
	"slices"
	"strings"
)

// portMark is where llama-swap puts the port that it chose.
const portMark = "${PORT}"

// maxRounds is how deep macros may hold each other.
const maxRounds = 16

// macro is a name and its text; those of a model come before those of the whole file.
type macro struct{ name, text string }

// expand replaces macros in a text until none is left.
func expand(text string, macros []macro) (string, error) {
	for range maxRounds {
		before := text
		for _, m := range macros {
			text = strings.ReplaceAll(text, "${"+m.name+"}", m.text)
			if len(text) > maxText {
				return "", fmt.Errorf("macros make it longer than %d bytes", maxText)
			}
		}
		if text != before {
			continue
		}
		if slices.ContainsFunc(macros, func(m macro) bool { return strings.Contains(text, "${"+m.name+"}") }) {
			break
		}
		return text, nil
	}
	return "", fmt.Errorf("macros hold each other, or are more than %d deep", maxRounds)
}

// unknownMacros returns what still has the form of a macro.
func unknownMacros(text string) (names []string) {
	for {
		_, rest, found := strings.Cut(text, "${")
		if !found {
			return names
		}
		name, after, found := strings.Cut(rest, "}")
		if !found {
			return names
		}
		if name != "PORT" {
			names = append(names, "${"+name+"}")
		}
		text = after
	}
}
