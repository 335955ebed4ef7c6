// Package lastwords chooses the lines of an ended engine's log that are shown with the report of
// its end: a few short ones, those that most likely explain it, without what must not leave the
// log.
//
// It owns that choice, its bounds and what is taken out of a line. It must not know where the lines
// come from or who reads them: no I/O, no clock, no state.
package lastwords

import (
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
)

// Most and Longest bound what is shown: so many lines of so many bytes each. It is kept in memory
// for each replica and sent with every answer about its pool.
const (
	Most    = 5
	Longest = 200
)

// telling are words of lines that report an error, as engines, the Python and the C++ runtime and
// the kernel write them.
var telling = regexp.MustCompile(`(?i)\b(?:errors?|fatal|fail(?:ed|ure|s)?|exception|\w+error|traceback|panic|abort(?:ed|ing)?|assert(?:ion)?|terminate called|segmentation fault|core dumped|killed|cannot|could not|unable to|out of memory|no such file|denied|refused|invalid)\b`)

// Choose returns at most Most lines of a run's log, given with the oldest first, in that order: the
// newest of those that report an error, and, where they are fewer, the newest of the others. A line
// that repeats a caller's words, such as a prompt, is left out.
func Choose(lines []string) []string {
	var errors, others []int
	for i, line := range slices.Backward(lines) {
		line = clip(line, enough)
		switch {
		case len(errors) == Most:
		case strings.TrimSpace(line) == "" || classify.Quotes(line):
		case isError(line):
			errors = append(errors, i)
		case len(others) < Most:
			others = append(others, i)
		}
	}
	chosen := append(errors, others[:min(len(others), Most-len(errors))]...)
	slices.Sort(chosen)
	var out []string
	for _, i := range chosen {
		if line := Clean(lines[i]); line != "" {
			out = append(out, line)
		}
	}
	return out
}

// Says returns the newest line of a run's log that reports an error, as it is shown, or "".
func Says(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if line = clip(line, enough); isError(line) && !classify.Quotes(line) {
			return Clean(line)
		}
	}
	return ""
}

// enough is what is looked at of a line, in bytes: far more than is shown, so that a secret that
// begins within the bound is seen whole, and far less than a line may have.
const enough = 8 * Longest

func isError(line string) bool {
	if _, ok := classify.EngineLog(line); ok {
		return true
	}
	return telling.MatchString(line)
}

// escapes are terminal control sequences (ECMA-48, 5.4), which some engines write into a log too.
var escapes = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// Clean makes one line fit to be shown: no control characters, no secrets, valid UTF-8, at most
// Longest bytes.
func Clean(line string) string {
	line = clip(strings.ToValidUTF8(line, "\uFFFD"), enough)
	line = escapes.ReplaceAllString(line, "")
	line = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return -1
		}
		return r
	}, line)
	line = Redact(line)
	if len(line) > Longest {
		const more = "…"
		line = clip(line, Longest-len(more)) + more
	}
	return strings.TrimSpace(line)
}

// clip cuts a valid text to at most n bytes, between two characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
