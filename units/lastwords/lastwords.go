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
		line = Ends(line)
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
		if line = Ends(line); isError(line) && !classify.Quotes(line) {
			return Clean(line)
		}
	}
	return ""
}

// scanned is how much of each end of a line is examined, in bytes: far more than is shown, so that
// a secret that begins within the bound is seen whole, and far less than a line may have.
const scanned = 8 * Longest

// longestName is how long the name of a secret is at most, in bytes. The first word of a line's end
// may be the rest of one, and what follows the secret.
const longestName = 64

// gap is in the place of what is left out of a line.
const gap = " … "

// Ends returns of a long line what is examined: its beginning and its end, where the reason of an
// end often is. Both are cut between words, and what may be a secret whose name or prefix is
// left out goes with it.
func Ends(line string) string {
	if len(line) <= 2*scanned+len(gap) {
		return line
	}
	head, tail := clip(line, scanned), line[len(line)-scanned:]
	if i := strings.LastIndexFunc(head, unicode.IsSpace); i > 0 {
		head = head[:i]
	}
	if tail = behindSecret(tail); tail == "" {
		return head
	}
	return head + gap + tail
}

// behindSecret leaves out the beginning of a line's end. Its first word may be the rest of a
// secret, or of the name of one, as in "password is SECRET". A secret whose name is there is hidden
// first, or it would lose the name.
func behindSecret(tail string) string {
	words := 1
	if i := strings.IndexFunc(tail, unicode.IsSpace); i < longestName {
		words = 3
		front := min(4*longestName, len(tail))
		front += max(strings.IndexFunc(tail[front:], unicode.IsSpace), 0)
		tail = Redact(tail[:front]) + tail[front:]
	}
	for range words {
		i := strings.IndexFunc(tail, unicode.IsSpace)
		if i < 0 {
			return ""
		}
		tail = strings.TrimLeftFunc(tail[i:], unicode.IsSpace)
	}
	return tail
}

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
	line = strings.ToValidUTF8(Ends(line), "\uFFFD")
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
	return strings.TrimSpace(excerpt(Redact(line)))
}

// excerpt returns at most Longest bytes of a line: its beginning, and where what reports an error
// is further behind, that.
func excerpt(line string) string {
	if len(line) <= Longest {
		return line
	}
	const more, half, shownOf = "…", Longest / 2, 60
	found := errorWords().FindAllStringIndex(line, -1)
	if len(found) == 0 || found[len(found)-1][0] <= Longest-shownOf {
		return clip(line, Longest-len(more)) + more
	}
	last := found[len(found)-1][0]
	if found[0][0] < half {
		return clip(line, half-len(gap)) + gap + from(line, last, half)
	}
	return more + from(line, last, Longest-len(more))
}

// from returns n bytes of a text at a position at most: what follows it, and what is before it if
// there is room.
func from(s string, at, n int) string {
	if len(s)-at > n {
		const more = "…"
		return clip(s[at:], n-len(more)) + more
	}
	at = len(s) - n
	for at < len(s) && !utf8.RuneStart(s[at]) {
		at++
	}
	return s[at:]
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
