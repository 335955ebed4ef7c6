package systemd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestParseJournalEntry(t *testing.T) {
	cases := map[string]struct {
		line string
		want map[string]string // nil: no entry
	}{
		"text":                      {`{"MESSAGE":"NVRM: Xid","_PID":"7"}`, map[string]string{"MESSAGE": "NVRM: Xid", "_PID": "7"}},
		"bytes":                     {`{"MESSAGE":[27,91,51,49,109,111,104]}`, map[string]string{"MESSAGE": "\x1b[31moh"}},
		"bytes_that_are_no_text":    {`{"MESSAGE":[97,255,98]}`, map[string]string{"MESSAGE": "a\uFFFDb"}},
		"no_bytes":                  {`{"MESSAGE":[]}`, map[string]string{"MESSAGE": ""}},
		"too_large_for_json":        {`{"MESSAGE":null,"_PID":"7"}`, map[string]string{"_PID": "7"}},
		"several_values":            {`{"MESSAGE":["a","b"]}`, map[string]string{"MESSAGE": "a"}},
		"several_values_some_bytes": {`{"MESSAGE":[null,[104,105],"b"]}`, map[string]string{"MESSAGE": "hi"}},
		"a_number_above_a_byte":     {`{"MESSAGE":[256]}`, map[string]string{}},
		"an_object":                 {`{"MESSAGE":{"a":1}}`, map[string]string{}},
		"deep_nesting":              {`{"MESSAGE":[[[[1]]]]}`, map[string]string{}},
		"what_is_always_printed":    {`{"__MONOTONIC_TIMESTAMP":"5","_BOOT_ID":"x"}`, map[string]string{}},
		"not_json":                  {`Failed to load libpcre2`, nil},
		"cut":                       {`{"MESSAGE":"a`, nil},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			line := strings.Replace(c.line, "{", `{"__CURSOR":"s=1","__REALTIME_TIMESTAMP":"1700000000000001",`, 1)
			e, ok := parseJournalEntry([]byte(line))
			if ok != (c.want != nil) {
				t.Fatalf("entry %v, found = %t", e, ok)
			}
			if !ok {
				return
			}
			want := JournalEntry{Cursor: "s=1", At: time.UnixMicro(1_700_000_000_000_001), Fields: c.want}
			if diff := cmp.Diff(want, e); diff != "" {
				t.Error(diff)
			}
		})
	}
	if _, ok := parseJournalEntry([]byte(`{"MESSAGE":"x"}`)); ok {
		t.Error("a line without a cursor is taken for an entry")
	}
}

func TestScanJournal(t *testing.T) {
	entry := func(text string) string { return `{"__CURSOR":"c","MESSAGE":"` + text + `"}` }
	fill := func(bytes int) string { return entry(strings.Repeat("x", bytes-len(entry("")))) }
	cases := map[string]struct {
		lines string
		want  []int // lengths of the messages that are delivered
	}{
		"each_line":                 {entry("a") + "\n" + entry("bb") + "\n", []int{1, 2}},
		"words_between":             {"-- Boot --\n" + entry("a") + "\n\n" + entry("bb") + "\n", []int{1, 2}},
		"the_longest":               {fill(maxJournalLine-1) + "\n" + entry("a") + "\n", []int{maxJournalLine - 1 - len(entry("")), 1}},
		"too_long_is_passed_over":   {fill(maxJournalLine) + "\n" + entry("a") + "\n", []int{1}},
		"much_too_long_passed_over": {fill(10*maxJournalLine+5) + "\n" + entry("a") + "\n", []int{1}},
		"48_KiB_that_are_not_utf8": {`{"__CURSOR":"c","MESSAGE":[` + strings.Repeat("255,", 48<<10-1) + "65]}\n" + entry("a") + "\n",
			[]int{len("\uFFFDA"), 1}},
		"48_KiB_of_escapes":           {entry(strings.Repeat(`\u001b`, 48<<10)) + "\n", []int{48 << 10}},
		"a_line_without_end_is_cut":   {entry("a") + "\n" + entry("bb"), []int{1}},
		"an_entry_in_a_too_long_line": {strings.Repeat(" ", maxJournalLine) + entry("a") + "\n" + entry("bb") + "\n", []int{2}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got []int
			if err := scanJournal(strings.NewReader(c.lines), func(e JournalEntry) {
				got = append(got, len(e.Message()))
			}); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestAnswered: what a reading of the journal returns, for each way in which it ends.
func TestAnswered(t *testing.T) {
	entry := func(text string) string { return `{"__CURSOR":"c","MESSAGE":"` + text + `"}` + "\n" }
	exited := func(status int) Status { return Status{ExecMainCode: cldExited, ExecMainStatus: status} }
	for name, c := range map[string]struct {
		out   string
		st    Status
		err   error
		limit int
		want  string
		fails error // nil: no error
	}{
		"in_the_order_of_the_journal":    {entry("b") + entry("a"), exited(0), nil, 9, "a b", nil},
		"the_newest":                     {entry("b") + entry("a"), exited(0), nil, 1, "b", nil},
		"nothing_found":                  {"", exited(1), nil, 9, "", nil},
		"a_complaint":                    {"no such option\n", exited(1), nil, 9, "", errJournalctl},
		"a_failure":                      {entry("b"), exited(2), nil, 9, "", errJournalctl},
		"a_deadline_keeps_what_was_read": {entry("c") + entry("b") + `{"__CURSOR":"c","MESS`, Status{}, context.DeadlineExceeded, 9, "b c", context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			entries, err := answered(c.out, c.st, c.err, c.limit, nil)
			var got []string
			for _, e := range entries {
				got = append(got, e.Message())
			}
			if strings.Join(got, " ") != c.want || !errors.Is(err, c.fails) {
				t.Errorf("got %q and %v, want %q and %v", got, err, c.want, c.fails)
			}
		})
	}
}

func FuzzScanJournal(f *testing.F) {
	f.Add(`{"__CURSOR":"c","MESSAGE":[[1],[2]]}`+"\n", "x")
	f.Add(`{"__CURSOR":null}`, `[[[[`)
	f.Fuzz(mutate.Many(func(t *testing.T, first, second string) {
		deliver := func(e JournalEntry) {
			if e.Cursor == "" || e.Fields == nil {
				t.Errorf("an entry without a cursor to continue after: %+v", e)
			}
		}
		if err := scanJournal(strings.NewReader(first+"\n"+second), deliver); err != nil {
			t.Error(err)
		}
		// Whatever came before, a whole entry on a line of its own is delivered.
		last := ""
		_ = scanJournal(strings.NewReader(first+"\n"+second+"\n"+`{"__CURSOR":"last"}`+"\n"), func(e JournalEntry) {
			last = e.Cursor
		})
		if last != "last" {
			t.Errorf("the entry after %q and %q is lost", first, second)
		}
	}))
}

func TestJournalQuery(t *testing.T) {
	now := time.UnixMicro(1_700_000_000_000_042)
	fields := []string{"MESSAGE", "_PID"}
	cases := map[string]struct {
		query JournalQuery
		want  string // arguments, or the error
	}{
		"all": {JournalQuery{Fields: fields}, "--output-fields=MESSAGE,_PID --"},
		"now_is_the_time_of_the_call": {JournalQuery{Fields: fields, FromNow: true, Matches: []string{"_TRANSPORT=kernel", "+", "A=b c"}},
			"--output-fields=MESSAGE,_PID --since=@1700000000.000042 -- _TRANSPORT=kernel + A=b c"},
		"a_time_wins_over_now":    {JournalQuery{Fields: fields, FromNow: true, Since: time.Unix(5, 0)}, "--output-fields=MESSAGE,_PID --since=@5.000000 --"},
		"a_cursor_wins_over_both": {JournalQuery{Fields: fields, FromNow: true, Since: now, After: "s=1;i=2"}, "--output-fields=MESSAGE,_PID --after-cursor=s=1;i=2 --"},
		"grep": {JournalQuery{Fields: fields, Grep: "(?i)xid|oom"},
			"--output-fields=MESSAGE,_PID --case-sensitive=yes --grep=(?i)xid|oom --"},
		"a_match_that_is_an_option":   {JournalQuery{Fields: fields, Matches: []string{"--vacuum-size=1"}}, `journal match "--vacuum-size=1" is not of the form FIELD=value, nor a + between two`},
		"a_path":                      {JournalQuery{Fields: fields, Matches: []string{"/bin/sh"}}, `journal match "/bin/sh" is not of the form FIELD=value, nor a + between two`},
		"nothing_before_the_plus":     {JournalQuery{Fields: fields, Matches: []string{"+", "A=b"}}, `journal match "+" is not of the form FIELD=value, nor a + between two`},
		"nothing_after_the_plus":      {JournalQuery{Fields: fields, Matches: []string{"A=b", "+"}}, `journal match "+" is not of the form FIELD=value, nor a + between two`},
		"nothing_between_two":         {JournalQuery{Fields: fields, Matches: []string{"A=b", "+", "+", "A=b"}}, `journal match "+" is not of the form FIELD=value, nor a + between two`},
		"no_fields":                   {JournalQuery{}, "no journal fields requested"},
		"a_field_that_is_none":        {JournalQuery{Fields: []string{"MESSAGE,A"}}, `"MESSAGE,A" is not a valid journal field name`},
		"an_expression_that_is_wrong": {JournalQuery{Fields: fields, Grep: "("}, "journal filter: error parsing regexp: missing closing ): `(`"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var got string
			if q, grep, err := c.query.prepare(now); err != nil {
				got = err.Error()
			} else {
				got = strings.TrimPrefix(strings.Join(q.arguments(true), " "),
					"/usr/bin/journalctl --quiet --no-pager --all --output=json ")
				if (grep != nil) != (q.Grep != "") ||
					strings.Contains(strings.Join(q.arguments(false), " "), "--grep") {
					t.Error("the expression is lost, or given where it may not be")
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestJournalUnitEnded(t *testing.T) {
	for name, c := range map[string]struct {
		st   Status
		out  string
		want string
	}{
		"its_words":       {Status{ExecMainCode: 1, ExecMainStatus: 1}, "{\"__CURSOR\":\"c\"}\nCompiled without pattern matching support\n\n", "exit status 1: Compiled without pattern matching support"},
		"killed":          {Status{ExecMainCode: 2, ExecMainStatus: 9}, "", "signal SIGKILL"},
		"not_executed":    {Status{ExecMainCode: 1, ExecMainStatus: 203}, "", "PID 1 could not execute it (status 203 of systemd.exec(5))"},
		"nothing_is_told": {Status{}, "", "no exit status is known"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ended(c.st, c.out); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}
