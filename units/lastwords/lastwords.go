// Package lastwords selects the lines of an ended engine's log that are shown with its end: a few
// short ones that most likely explain it, without secrets.
//
// It owns the selection, its bounds and what is removed from a line. It must not know where the
// lines come from or who reads them: no I/O, no clock, no state.
package lastwords

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// Most and Longest bound the number of lines and their length in bytes. They are kept in memory for
// each replica and are part of every answer about its pool.
const (
	Most    = 5
	Longest = 200
)

// errorWords are words of lines that report an error, as engines, the Python and C++ runtimes and
// the kernel write them.
var errorWords = pattern.Lazy(`(?i)\b(?:errors?|fatal|fail(?:ed|ure|s)?|exception|\w+error|traceback|panic|` +
	`abort(?:ed|ing)?|assert(?:ion)?|terminate called|segmentation fault|core dumped|killed|cannot|could not|` +
	`unable to|out of memory|no such file|denied|refused|invalid)\b`)

// Choose returns at most Most of a run's log lines, which are given and returned oldest first: the
// newest of those that report an error, and the newest of the others if there are fewer. Lines that
// quote a caller, such as a prompt, are left out.
func Choose(lines []string) []string {
	var errors, others []int
	for i, line := range slices.Backward(lines) {
		line = clip(line, scanned)
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

// LastError returns the newest line of a run's log that reports an error, cleaned, or "".
func LastError(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if line = clip(line, scanned); isError(line) && !classify.Quotes(line) {
			return Clean(line)
		}
	}
	return ""
}

// scanned is how much of a line is examined, in bytes: far more than is shown, so that a secret
// that begins within the bound is seen whole, and far less than a line may have.
const scanned = 8 * Longest

func isError(line string) bool {
	if _, ok := classify.EngineLog(line); ok {
		return true
	}
	return errorWords().MatchString(line)
}

// escapes are terminal control sequences (ECMA-48, 5.4), which some engines write into a log too.
var escapes = pattern.Lazy("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// Clean makes a line safe to show: no control characters, no secrets, valid UTF-8, at most Longest
// bytes.
func Clean(line string) string {
	line = clip(strings.ToValidUTF8(line, "\uFFFD"), scanned)
	line = escapes().ReplaceAllString(line, "")
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
