package supervise

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// readyPools are n pools, p00 and so on, that are ready, with a log.
func readyPools(t *testing.T, w *world, n int) (*manager, *runLog, []string) {
	l := &runLog{lines: map[string][]string{}}
	var d Desired
	var ids []string
	for i := range n {
		ids = append(ids, fmt.Sprintf("p%02d", i))
		d.Pools = append(d.Pools, llama(ids[i]))
	}
	m := w.manage(t, d, func(o *Options) { o.Journal, o.Log = l, slog.New(slog.NewTextHandler(l, nil)) })
	for _, id := range ids {
		w.passGate(unitOf(id))
	}
	time.Sleep(10 * time.Second)
	return m, l, ids
}

// run is the invocation of a pool's unit.
func (w *world) run(id string) (run string) {
	w.with(func() { run = w.units[unitOf(id)].InvocationID })
	return run
}

// TestCrashStorm: the end of every engine is reported with its own last words, and PID 1 is not
// asked for as many units as engines ended.
func TestCrashStorm(t *testing.T) {
	const many = 50
	scenario(t, "fifty_at_once", func(t *testing.T, w *world) {
		m, l, ids := readyPools(t, w, many)
		for _, id := range ids {
			l.lines[w.run(id)] = []string{"error: of " + id, "CUDA error: out of memory"}
		}
		for _, id := range ids {
			w.change(unitOf(id), ends("exit-code", cldExited, 1))
		}
		time.Sleep(2 * time.Second)
		for _, id := range ids {
			m.wantCode(id, registry.CodeCUDAOOM)
			if e := m.pool(id).LastError.Ending; !slices.Equal(e.Lines,
				[]string{"error: of " + id, "CUDA error: out of memory"}) {
				t.Errorf("%s ended with the last words %q (%s)", id, e.Lines, e.NoLines)
			}
		}
		if most := 1 + (many-1)/readTogether; len(l.reads()) > most {
			t.Errorf("%d readings, want at most %d", len(l.reads()), most)
		}
		if got := len(l.logged("level=WARN")); got != many {
			t.Errorf("%d crashes were logged, want %d", got, many)
		}
	})
	scenario(t, "one_that_says_much_hides_nobody", func(t *testing.T, w *world) {
		m, l, ids := readyPools(t, w, 3)
		quiet, silent, loud := ids[0], ids[1], ids[2]
		l.lines[w.run(quiet)] = []string{"error: no such tensor"}
		for i := range 1000 {
			l.lines[w.run(loud)] = append(l.lines[w.run(loud)], fmt.Sprintf("goroutine %d", i))
		}
		for _, id := range ids {
			w.change(unitOf(id), ends("exit-code", cldExited, 1))
		}
		time.Sleep(5 * time.Second)
		if e := m.pool(quiet).LastError.Ending; !slices.Equal(e.Lines, []string{"error: no such tensor"}) {
			t.Errorf("the quiet one ended with the last words %q (%s)", e.Lines, e.NoLines)
		}
		if e := m.pool(silent).LastError.Ending; e.NoLines != "it logged nothing" {
			t.Errorf("the silent one ended with the last words %q (%s)", e.Lines, e.NoLines)
		}
		if e := m.pool(loud).LastError.Ending; len(e.Lines) == 0 || e.Lines[len(e.Lines)-1] != "goroutine 999" {
			t.Errorf("the loud one ended with the last words %q (%s)", e.Lines, e.NoLines)
		}
		got := l.reads()
		got = slices.DeleteFunc(got, func(q string) bool { return strings.Contains(q, droppedMatch) })
		if len(got) != 3 || strings.Count(got[0], invocationField) != 3 ||
			strings.Count(got[1]+got[2], invocationField) != 2 {
			t.Errorf("asked for %q, want all three and then two of them alone", got)
		}
	})
	scenario(t, "suppressed_lines_are_counted", func(t *testing.T, w *world) {
		m, l, ids := readyPools(t, w, 2)
		run, other := w.run(ids[0]), w.run(ids[1])
		l.lines[run], l.lines[other] = slices.Repeat([]string{"noise"}, 5000), []string{"one"}
		l.drops = map[string][]string{run: {"40000", "2", "many"}, other: {"7"}}
		for _, id := range ids {
			w.change(unitOf(id), ends("exit-code", cldExited, 3))
			time.Sleep(5 * time.Second)
		}
		const says = "; journald suppressed 40002 lines of this run or the end of the one before"
		if f := m.pool(ids[0]).LastError; f.Ending.Suppressed != 40002 || !strings.Contains(f.Message, says) {
			t.Errorf("%+v, %+v", f, f.Ending)
		}
		if len(l.logged("lines_suppressed=40002")) != 1 {
			t.Errorf("not in the log")
		}
		// One that logs little is not asked about.
		if f := m.pool(ids[1]).LastError; f.Ending.Suppressed != 0 || len(l.reads()) != 3 {
			t.Errorf("%+v, %q", f.Ending, l.reads())
		}
	})
	scenario(t, "a_log_that_cannot_be_read_is_so_for_all", func(t *testing.T, w *world) {
		m, l, ids := readyPools(t, w, 2)
		l.err = fmt.Errorf("no journal")
		for _, id := range ids {
			w.change(unitOf(id), ends("exit-code", cldExited, 1))
		}
		time.Sleep(2 * time.Second)
		for _, id := range ids {
			if e := m.pool(id).LastError.Ending; e.NoLines != "could not read its log: no journal" {
				t.Errorf("no_lines %q", e.NoLines)
			}
		}
	})
}

// TestUnreadLogs: when a reading may begin, and of which logs it is.
func TestUnreadLogs(t *testing.T) {
	start := time.Now()
	logs := func(n int, settled time.Duration) (out []*unreadLog) {
		for range n {
			out = append(out, &unreadLog{settled: start.Add(settled)})
		}
		return out
	}
	alone := logs(1, 0)
	alone[0].alone = true
	for _, c := range []struct {
		name    string
		waiting []*unreadLog
		want    []string // when each reading begins, and of how many logs it is
	}{
		{"one_has_to_settle", logs(1, crashSettle), []string{"300ms 1"}},
		{"those_that_ended_together_are_read_together", logs(20, crashSettle), []string{"300ms 16", "300ms 4"}},
		{"one_that_has_not_settled_waits", slices.Concat(logs(2, 0), logs(1, time.Second)), []string{"0s 2", "1s 1"}},
		{"alone_is_alone", slices.Concat(alone, logs(2, 0)), []string{"0s 1", "0s 2"}},
		{"four_at_once_and_then_one_each_half_second", logs(6*readTogether, 0), []string{"0s 16", "0s 16", "0s 16", "0s 16", "500ms 16", "1s 16"}},
		{
			"after_a_rest_four_more",
			slices.Concat(logs(5*readTogether, 0), logs(5*readTogether, time.Hour)),
			[]string{"0s 16", "0s 16", "0s 16", "0s 16", "500ms 16", "1h0m0s 16", "1h0m0s 16", "1h0m0s 16", "1h0m0s 16", "1h0m0.5s 16"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, now := unreadLogs{waiting: c.waiting}, start
			var got []string
			for len(q.waiting) > 0 {
				now = now.Add(q.pause(now))
				taken := len(q.take(now))
				if got = append(got, fmt.Sprint(now.Sub(start), " ", taken)); taken == 0 {
					t.Fatalf("a reading of nothing: %q", got)
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
	t.Run("nothing_has_settled", func(t *testing.T) {
		q := unreadLogs{waiting: logs(1, crashSettle)}
		if got := q.take(start); got != nil || q.spent != 0 {
			t.Errorf("took %d", len(got))
		}
	})
}

// TestTails: what a reading has of each run.
func TestTails(t *testing.T) {
	entry := func(run, line string) systemd.JournalEntry {
		return systemd.JournalEntry{Fields: map[string]string{"MESSAGE": line, invocationField: run}}
	}
	var entries []systemd.JournalEntry
	for i := range crashTail + 1 {
		entries = append(entries, entry("a", fmt.Sprint(i)))
	}
	entries = append(entries, entry("b", "pool-gate: waits"), entry("c", "one"),
		entry("c", "pool-gate: stalled; seen: status 503 at /health"),
		entry("c", "pool-gate: stalled; seen: status 404 at /health"), entry("c", "pool-gate: waits"))
	got := tails(entries, nil)
	if a := got["a"].lines; len(a) != crashTail || a[0] != "1" {
		t.Errorf("a has %d lines from %q on, want the newest", len(a), a[0])
	}
	if b := got["b"]; len(b.lines) != 0 || b.heard != "" {
		t.Errorf("b has %+v, which is the gate's", b)
	}
	if c := got["c"]; !slices.Equal(c.lines, []string{"one"}) || c.heard != "status 404 at /health" {
		t.Errorf("c has %+v, want the engine's own line and what the gate heard last", c)
	}
}

// TestLongLines: a line that journald has cut is one line again, with its beginning and its end.
func TestLongLines(t *testing.T) {
	piece := func(run, text string, continues bool) systemd.JournalEntry {
		e := systemd.JournalEntry{Fields: map[string]string{"MESSAGE": text, invocationField: run}}
		if continues {
			e.Fields[lineBreakField] = lineContinues
		}
		return e
	}
	entries := []systemd.JournalEntry{piece("short", "ab", true), piece("short", "cd", true),
		piece("short", "ef", false)}
	for i := range crashTail - 1 {
		entries = append(entries, piece("long", fmt.Sprintf("%d %s", i, strings.Repeat("x", 48<<10)), true),
			piece("long", "pool-gate: waits", false))
	}
	entries = append(entries, piece("long", "x FATAL: the rea", true), piece("long", "son", false),
		piece("killed", "first", false), piece("killed", "half of a", true))
	got := tails(entries, nil)
	for run, want := range map[string][]string{"short": {"abcdef"}, "killed": {"first", "half of a"}} {
		if !slices.Equal(got[run].lines, want) {
			t.Errorf("%s has %q, want %q", run, got[run].lines, want)
		}
	}
	if long := got["long"].lines; len(long) != 1 || len(long[0]) > 4096 || !strings.HasPrefix(long[0], "0") ||
		!strings.HasSuffix(long[0], "FATAL: the reason") {
		t.Errorf("the long line is %d lines: %.200q", len(long), long)
	}
	if got["long"].entries <= crashTail {
		t.Errorf("%d entries: what journald suppressed is not asked for", got["long"].entries)
	}
}

// TestLinesWithoutAnInvocation: journald knows the unit alone of a process that is gone; its lines
// are those of the newest run that had begun.
func TestLinesWithoutAnInvocation(t *testing.T) {
	at := func(s int) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(s) * time.Second) }
	origin := func(unit string, s int) logOrigin { return logOrigin{unit: unit, began: at(s)} }
	logs := []*unreadLog{
		{run: "a1", origin: origin("a", 10)}, {run: "a2", origin: origin("a", 20)}, {run: "b1", origin: origin("b", 15)},
		{run: "c1", origin: logOrigin{unit: "c"}},
	}
	line := func(unit string, s int, text string) systemd.JournalEntry {
		return systemd.JournalEntry{At: at(s), Fields: map[string]string{"MESSAGE": text, unitField: unit}}
	}
	got := tails([]systemd.JournalEntry{
		line("a", 5, "of an earlier run"), line("a", 12, "first"), line("a", 21, "second"), line("b", 22, "other"),
		line("c", 22, "of a run whose beginning is not known"), line("d", 22, "of no pool"),
	}, logs)
	want := map[string][]string{"a1": {"first"}, "a2": {"second"}, "b1": {"other"}, "c1": nil}
	for run, lines := range want {
		if !slices.Equal(got[run].lines, lines) {
			t.Errorf("%s has %q, want %q", run, got[run].lines, lines)
		}
	}
}

// TestTailQuery: all lines of the units since the oldest run began, or by invocation where that is
// not known.
func TestTailQuery(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	known := []*unreadLog{{run: "a1", origin: logOrigin{unit: "a", began: began.Add(time.Hour)}},
		{run: "b1", origin: logOrigin{unit: "b", began: began}}, {run: "a2", origin: logOrigin{unit: "a", began: began}}}
	q, _ := tailQuery(known)
	if want := []string{"_SYSTEMD_UNIT=a", "_SYSTEMD_UNIT=b"}; !slices.Equal(q.Matches, want) ||
		!q.Since.Equal(began.Add(-clockSlack)) {
		t.Errorf("asks for %q since %s", q.Matches, q.Since)
	}
	q, _ = tailQuery(append(known, &unreadLog{run: "c1", origin: logOrigin{unit: "c"}}))
	want := []string{"_SYSTEMD_INVOCATION_ID=a1", "_SYSTEMD_INVOCATION_ID=b1", "_SYSTEMD_INVOCATION_ID=a2",
		"_SYSTEMD_INVOCATION_ID=c1", "_SYSTEMD_UNIT=a", "_SYSTEMD_UNIT=b", "_SYSTEMD_UNIT=c"}
	if !slices.Equal(q.Matches, want) || !q.Since.IsZero() {
		t.Errorf("asks for %q since %s, want by invocation", q.Matches, q.Since)
	}
}

// TestOriginOfARun: where the clock was set during a run, its beginning is not known.
func TestOriginOfARun(t *testing.T) {
	began := time.Unix(1_000_000, 0)
	for name, c := range map[string]struct {
		st   systemd.Status
		want time.Time
	}{
		"ended":              {systemd.Status{MainStarted: began, MainExited: began.Add(time.Minute), MainRan: time.Minute}, began},
		"clock_set_back":     {systemd.Status{MainStarted: began, MainExited: began.Add(-time.Hour), MainRan: time.Minute}, time.Time{}},
		"no_main_process":    {systemd.Status{}, time.Time{}},
		"its_end_is_unknown": {systemd.Status{MainStarted: began}, time.Time{}},
	} {
		if o := originOf("u", c.st); !o.began.Equal(c.want) || o.unit != "u" {
			t.Errorf("%s: %+v, want %s", name, o, c.want)
		}
	}
}
