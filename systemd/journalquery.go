package systemd

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// JournalQuery selects entries of the journal, and where to begin.
type JournalQuery struct {
	// Matches are terms "FIELD=value", as journalctl(1) takes them: those of one field are
	// alternatives, those of different fields must all hold, and a "+" between groups makes the
	// groups alternatives. None: every entry.
	Matches []string
	// Grep is a regular expression that MESSAGE must match, in the syntax that RE2 and PCRE have in
	// common; it is case-sensitive, except where "(?i)" applies. Empty: any message.
	Grep string
	// Fields are those that an entry carries, "MESSAGE" included if it is needed.
	Fields []string

	// Where to begin, the first that is set: after the entry with this cursor, at this time, or
	// now: with the first entry that the journal receives after the call. Else with the oldest
	// entry.
	After   string
	Since   time.Time
	FromNow bool
}

var (
	matchForm = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*=`)
	fieldForm = regexp.MustCompile(`^[A-Z_][A-Z0-9_]*$`)
)

// prepare checks a query and sets its beginning to now, the time of the call, so that the answer
// includes what the journal receives while journalctl starts. The expression is nil if the query
// has none.
func (q JournalQuery) prepare(now time.Time) (JournalQuery, *regexp.Regexp, error) {
	for i, m := range q.Matches {
		plus := m == "+" && i > 0 && i < len(q.Matches)-1 && q.Matches[i-1] != "+"
		if !plus && !matchForm.MatchString(m) {
			return q, nil, fmt.Errorf("journal match %q is not of the form FIELD=value, nor a + between two", m)
		}
	}
	if len(q.Fields) == 0 {
		return q, nil, errors.New("no journal fields requested")
	}
	for _, f := range q.Fields {
		if !fieldForm.MatchString(f) {
			return q, nil, fmt.Errorf("%q is not a valid journal field name", f)
		}
	}
	if q.FromNow && q.After == "" && q.Since.IsZero() {
		q.Since = now
	}
	if q.Grep == "" {
		return q, nil, nil
	}
	grep, err := regexp.Compile(q.Grep)
	if err != nil {
		return q, nil, fmt.Errorf("journal filter: %w", err)
	}
	return q, grep, nil
}

// journalctl is fixed: PATH must not decide what a root service runs.
const journalctl = "/usr/bin/journalctl"

// arguments are journalctl's for a prepared query (journalctl(1)), except where to stop. --all,
// because long fields would be null without it; the reader bounds the lines.
func (q JournalQuery) arguments(grep bool, more ...string) []string {
	args := []string{journalctl, "--quiet", "--no-pager", "--all", "--output=json",
		"--output-fields=" + strings.Join(q.Fields, ",")}
	args = append(args, more...)
	switch {
	case q.After != "":
		args = append(args, "--after-cursor="+q.After)
	case !q.Since.IsZero():
		usec := q.Since.UnixMicro()
		args = append(args, "--since=@"+strconv.FormatInt(usec/1e6, 10)+"."+fmt.Sprintf("%06d", usec%1e6))
	}
	if grep && q.Grep != "" {
		args = append(args, "--case-sensitive=yes", "--grep="+q.Grep)
	}
	return slices.Concat(args, []string{"--"}, q.Matches)
}
