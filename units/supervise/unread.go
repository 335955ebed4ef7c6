package supervise

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/gate/exit"
	"github.com/pool-managerd/pool-managerd/units/lastwords"
)

const (
	// crashSettle is how long the end of a run is left alone before its log is read: the journal
	// may still be taking its last lines, and what PID 1 does not signal of it is being read.
	crashSettle = 300 * time.Millisecond
	// crashReading bounds one reading; its reports go out with the lines that were read by then. It
	// waits for a transient unit on a host where an engine may just have dumped its core, or have
	// written more than journald reads at once; only the event and the line in the log wait for it.
	crashReading = 30 * time.Second
	// crashTail is how many of a run's newest lines are looked through.
	crashTail = 200
	// Readings that may begin at once, how long until one more may, and how many runs one of them
	// reads: each costs a transient unit, and during a storm PID 1 has better things to do.
	readingsAtOnce = 4
	readingEvery   = 500 * time.Millisecond
	readTogether   = 16
)

// invocationField is the journal's for the run that a line is of (systemd.journal-fields(7)).
const invocationField = "_SYSTEMD_INVOCATION_ID"

// unreadLog is the log of one run that is to be read.
type unreadLog struct {
	run     string    // the invocation
	origin  logOrigin // whose it is
	settled time.Time // when it may be
	alone   bool      // the others of a reading left no room for it
	end     func(t tail, missing string)
}

// logOrigin is what a run's lines are known by beside its invocation.
type logOrigin struct {
	unit  string
	began time.Time // CLOCK_REALTIME of its main process; zero: not known, or the clock was set since
}

// originOf returns the origin of the lines of the unit's last run.
func originOf(unit string, st systemd.Status) logOrigin {
	o := logOrigin{unit: unit, began: st.MainStarted}
	if jump := st.MainExited.Sub(st.MainStarted) - st.MainRan; jump.Abs() > clockSlack {
		o.began = time.Time{}
	}
	return o
}

// clockSlack is by how much CLOCK_REALTIME may be adjusted during a run, and lines be logged before
// the main process is noted as started.
const clockSlack = time.Second

// tail is what is read of a run's log.
type tail struct {
	lines   []string // the engine's newest lines
	open    []string // pieces of a line that is not whole yet: the first one, and the last two
	entries int      // how many entries these lines were
	heard   string   // what the gate heard of the engine last; "": nothing
	dropped uint64   // how many lines journald suppressed, as far as it has reported that
}

// unreadLogs are the logs that wait to be read. Those of runs that ended together are read
// together. It belongs to the loop.
type unreadLogs struct {
	waiting []*unreadLog // the oldest first, but for those to be read alone, which come before
	due     bool         // the next reading is under way to its time
	spent   int          // readings that were begun, less one each readingEvery
	at      time.Time    // since when
}

// pause is how long from now the next reading has to wait; some log has to be waiting for it.
func (q *unreadLogs) pause(now time.Time) time.Duration {
	q.forget(now)
	wait := q.waiting[0].settled.Sub(now)
	if q.spent >= readingsAtOnce {
		wait = max(wait, q.at.Add(readingEvery).Sub(now))
	}
	return max(wait, 0)
}

// take begins a reading, of all that have settled and fit into one; none where nothing has settled.
func (q *unreadLogs) take(now time.Time) (together []*unreadLog) {
	q.forget(now)
	n := 0
	for n < min(len(q.waiting), readTogether) && !q.waiting[n].settled.After(now) && (n == 0 || !q.waiting[0].alone) {
		n++
	}
	if n == 0 {
		return nil
	}
	q.spent++
	together, q.waiting = slices.Clone(q.waiting[:n]), slices.Delete(q.waiting, 0, n)
	return together
}

// forget lets former readings no longer count, one each readingEvery.
func (q *unreadLogs) forget(now time.Time) {
	back := int(now.Sub(q.at) / readingEvery)
	if q.spent = max(q.spent-back, 0); q.spent == 0 {
		q.at = now
	} else {
		q.at = q.at.Add(time.Duration(back) * readingEvery)
	}
}

// readLog has the log of a run read when it has settled, and calls end on the loop with its newest
// lines, or why there are none.
func (s *Supervisor) readLog(of logOrigin, run string, end func(t tail, missing string)) {
	s.unread.waiting = append(s.unread.waiting, &unreadLog{run: run, origin: of,
		settled: time.Now().Add(crashSettle), end: end})
	s.nextReading()
}

// nextReading has the next reading begin in its time, where there is anything to read.
func (s *Supervisor) nextReading() {
	if s.unread.due || len(s.unread.waiting) == 0 {
		return
	}
	s.unread.due = true
	wait := s.unread.pause(time.Now())
	begin := func() {
		s.unread.due = false
		if logs := s.unread.take(time.Now()); len(logs) > 0 {
			s.readTogether(logs)
		}
		s.nextReading()
	}
	s.effect(func(ctx context.Context) func() {
		sleep(ctx, wait)
		return begin
	}, func(error) { begin() })
}

// readTogether reads the logs of some runs at once.
func (s *Supervisor) readTogether(logs []*unreadLog) {
	s.effect(func(ctx context.Context) func() {
		of, full, err := s.readTails(ctx, logs)
		return func() {
			for _, l := range logs {
				s.endReading(l, of[l.run], full && len(logs) > 1, err)
			}
			s.nextReading()
		}
	}, func(err error) {
		for _, l := range logs {
			l.end(tail{}, err.Error())
		}
	})
}

// readTails reads the newest lines of some runs; full says that there may be older ones, which had
// no room.
func (s *Supervisor) readTails(ctx context.Context, logs []*unreadLog) (of map[string]tail, full bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, crashReading)
	defer cancel()
	q, reports := tailQuery(logs)
	limit := crashTail * len(logs)
	entries, err := s.o.Journal.Read(ctx, q, limit)
	of, full = tails(entries, logs), len(entries) >= limit
	if err != nil || !slices.ContainsFunc(logs, func(l *unreadLog) bool { return of[l.run].entries >= crashTail }) {
		return of, full, err // too little was logged to be suppressed
	}
	q = systemd.JournalQuery{Fields: []string{droppedField, droppedOfField},
		Matches: append(reports, droppedMatch, transportField+"=driver")}
	entries, err = s.o.Journal.Read(ctx, q, limit)
	if err != nil {
		s.o.Log.Warn("could not read how many lines of engines journald suppressed", "err", err)
	}
	countDropped(of, entries)
	return of, full, nil
}

// tailQuery asks for the lines of some runs; reports match those on lines that were suppressed.
//
// The unit is matched beside the invocation: that of a unit of a user's own manager is what the
// user says. The slice would not do: journald takes it from the control group of the process. Of
// one that is gone by then, as after an engine's last words, it knows the unit alone, from PID 1,
// and no invocation either once the unit has ended (client_context_read_cgroup and _invocation_id
// in journald-context.c). So all lines of the units since the runs began are read, where that is
// known.
func tailQuery(logs []*unreadLog) (q systemd.JournalQuery, reports []string) {
	q.Fields = []string{"MESSAGE", invocationField, unitField, lineBreakField}
	var units []string
	since, known := time.Now(), true
	for _, l := range logs {
		q.Matches = append(q.Matches, invocationField+"="+l.run)
		units = append(units, unitField+"="+l.origin.unit)
		reports = append(reports, droppedOfField+"="+l.run)
		known = known && !l.origin.began.IsZero()
		if l.origin.began.Before(since) {
			since = l.origin.began
		}
	}
	slices.Sort(units)
	units = slices.Compact(units)
	if known {
		q.Matches, q.Since = units, since.Add(-clockSlack)
		return q, reports
	}
	q.Matches = append(q.Matches, units...)
	return q, reports
}

// journald's report of lines that it suppressed because of a unit's rate limit
// (LogRateLimitBurst=): it writes one before the unit's next line after the interval, about the
// process of that line. So what a run wrote last may be reported with the next run. Only journald
// sets the transport.
const (
	droppedMatch   = "MESSAGE_ID=a596d6fe7bfa4994828e72309e95d61e" // SD_MESSAGE_JOURNAL_DROPPED
	droppedField   = "N_DROPPED"
	droppedOfField = "OBJECT_SYSTEMD_INVOCATION_ID"
)

// countDropped adds up what journald reported of each run.
func countDropped(of map[string]tail, entries []systemd.JournalEntry) {
	for _, entry := range entries {
		n, err := strconv.ParseUint(entry.Fields[droppedField], 10, 32)
		if t, known := of[entry.Fields[droppedOfField]]; known && err == nil {
			t.dropped += n
			of[entry.Fields[droppedOfField]] = t
		}
	}
}

// tails sorts the engines' lines by their run. Those of the gate are not among them; of these only
// what it heard counts, whose other words are in the failure already.
func tails(entries []systemd.JournalEntry, logs []*unreadLog) map[string]tail {
	of := map[string]tail{}
	for _, entry := range entries {
		run := cmp.Or(entry.Fields[invocationField], runOf(entry, logs))
		t := of[run]
		if strings.HasPrefix(entry.Message(), exit.LogPrefix) {
			t.heard = cmp.Or(gateHeard(entry.Message()), t.heard)
		} else {
			t.add(entry.Message(), entry.Fields[lineBreakField] == lineContinues)
		}
		of[run] = t
	}
	for run, t := range of {
		if len(t.open) > 0 {
			t.add("", false)
			of[run] = t
		}
	}
	return of
}

// journald cuts a long line into entries of 48 KiB, and says so of all but the last
// (systemd.journal-fields(7)).
const (
	lineBreakField = "_LINE_BREAK"
	lineContinues  = "line-max"
)

// add takes the next entry. Of a line of many entries the beginning and the end are kept.
func (t *tail) add(text string, continues bool) {
	t.entries++
	if t.open = append(t.open, text); len(t.open) > 4 {
		t.open = append(t.open[:1], "\n", t.open[len(t.open)-2], text) // the space is where some is missing
	}
	if continues {
		return
	}
	t.lines = append(t.lines, lastwords.Ends(strings.Join(t.open, "")))
	t.lines, t.open = t.lines[max(len(t.lines)-crashTail, 0):], nil
}

// runOf returns the run of a line without an invocation: the newest of its unit that had begun; ""
// for none.
func runOf(entry systemd.JournalEntry, logs []*unreadLog) (run string) {
	var began time.Time
	for _, l := range logs {
		o := l.origin
		switch {
		case o.unit != entry.Fields[unitField] || o.began.IsZero():
		case !entry.At.Before(o.began.Add(-clockSlack)) && !o.began.Before(began):
			run, began = l.run, o.began
		}
	}
	return run
}

// endReading reports of one run what was read of it. One that the lines of others crowded out is
// read again, alone.
func (s *Supervisor) endReading(l *unreadLog, t tail, full bool, err error) {
	switch {
	case len(t.lines) > 0: // some, where the reading took too long
		l.end(t, "")
	case err != nil:
		l.end(tail{}, fmt.Sprintf("could not read its log: %v", err))
	case full:
		l.alone = true
		s.unread.waiting = slices.Insert(s.unread.waiting, 0, l)
	default:
		l.end(t, "it logged nothing")
	}
}
