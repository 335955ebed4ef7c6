package systemd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"time"
)

// JournalUnit is the unit that follows the journal. Its name is fixed, so that one manager's takes
// the place of a former one's.
const JournalUnit = "pool-journal.service"

// readJournalBytes bounds what ReadJournal takes from journalctl.
const readJournalBytes = 8 << 20

// ReadJournal returns the newest entries that match, at most limit, in the order of the journal.
// journalctl(1) reads them in a unit of its own, so that the caller needs neither the right to
// execute nor a way to the journal's files. When ctx ends first, the entries that were read by then
// come with its error: the newest, for they are read from the end. What was written before the call
// is among them, unless journald is far behind, or does not answer. A query that begins after a
// cursor is refused.
func (c *Client) ReadJournal(ctx context.Context, q JournalQuery, limit int) ([]JournalEntry, error) {
	q, grep, err := q.prepare(time.Now())
	if err == nil && q.After != "" {
		err = errors.New("only following begins after a cursor")
	}
	if err != nil {
		return nil, err
	}
	_ = syncJournal(ctx, journaldSocket) // what journald has is read all the same
	entries, err := c.readJournal(ctx, q, limit, nil)
	if errors.Is(err, errJournalctl) && grep != nil {
		return c.readJournal(ctx, q, limit, grep)
	}
	return entries, err
}

// errJournalctl says that journalctl ended by itself with an error.
var errJournalctl = errors.New("journalctl failed")

// readJournal reads once; filter takes the place of journalctl's own, which is then not asked for.
func (c *Client) readJournal(ctx context.Context, q JournalQuery, limit int, filter *regexp.Regexp) ([]JournalEntry,
	error) {
	// --grep implies --reverse with a number of lines, so that it is asked for in any case; the
	// newest come first, and a long answer is cut at the oldest.
	more := []string{"--reverse"}
	if filter == nil {
		more = append(more, fmt.Sprintf("--lines=%d", max(limit, 1)))
	}
	unit := fmt.Sprintf("pool-journal-read-%016x.service", rand.Uint64())
	props := journalProperties(q.arguments(filter == nil, more...))
	out, st, err := c.RunCapture(ctx, unit, props, readJournalBytes)
	return answered(string(out), st, err, limit, filter)
}

// answered is what journalctl's output, newest entry first, and the end of its unit say; err is why
// that end is not known.
func answered(out string, st Status, err error, limit int, filter *regexp.Regexp) ([]JournalEntry, error) {
	var entries []JournalEntry
	_ = scanJournal(strings.NewReader(out), func(e JournalEntry) {
		if len(entries) < limit && (filter == nil || filter.MatchString(e.Message())) {
			entries = append(entries, e)
		}
	})
	slices.Reverse(entries)
	if err != nil {
		return entries, fmt.Errorf("read the journal: %w", err)
	}
	if st.ExecMainCode != cldExited || st.ExecMainStatus > 1 || st.ExecMainStatus == 1 && len(entries) == 0 &&
		complained(out) {
		return nil, fmt.Errorf("read the journal: %w: %s", errJournalctl, ended(st, out))
	}
	return entries, nil
}

// FollowJournal delivers the entries that match, those of the past first as far as the query begins
// in it, and then each as it comes. It returns nil when ctx ends, and an error with the cause when
// journalctl's unit does; the caller begins again, with the cursor of the last entry in
// JournalQuery.After, so that none is lost. deliver is called from one goroutine, the caller's. A
// restart of the journal's own service is no end. One call at a time: each takes JournalUnit away
// from its former user.
//
// The unit ends with this process, also with one that is killed: journalctl ends when no one reads
// its output.
func (c *Client) FollowJournal(ctx context.Context, q JournalQuery, deliver func(JournalEntry)) error {
	q, grep, err := q.prepare(time.Now())
	if err != nil {
		return err
	}
	delivered := false
	err = c.followJournal(ctx, q.arguments(true, "--follow", "--no-tail"), func(e JournalEntry) {
		delivered = true
		deliver(e)
	})
	if errors.Is(err, errJournalctl) && grep != nil && !delivered {
		// journalctl may have been built without PCRE2, or not find its library: that shows only
		// here.
		err = c.followJournal(ctx, q.arguments(false, "--follow", "--no-tail"), func(e JournalEntry) {
			if grep.MatchString(e.Message()) {
				deliver(e)
			}
		})
	}
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("follow the journal: %w", err)
}

// followJournal is the life of one unit. It always returns an error.
func (c *Client) followJournal(ctx context.Context, argv []string, deliver func(JournalEntry)) error {
	run, err := c.startFollowing(ctx, argv)
	if err != nil {
		return err
	}
	defer run.close()
	words := make(chan string, 1)
	go func() { words <- string(readBounded(run.said, 4096)) }()
	stop := context.AfterFunc(ctx, func() { _ = run.out.SetReadDeadline(time.Now()) })
	defer stop()
	err = scanJournal(run.out, deliver)
	run.out.Close() // where the unit has not ended yet, this ends it
	_ = run.said.SetReadDeadline(time.Now().Add(drainTime))
	text := <-words
	defer c.endHelper(ctx, JournalUnit, false)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	return c.followingEnded(ctx, text)
}

// followingEnded says how the unit ended, as far as PID 1 can be asked.
func (c *Client) followingEnded(ctx context.Context, text string) error {
	st, err := c.Unit(ctx, JournalUnit)
	if err != nil {
		st = Status{}
	}
	if st.ExecMainCode == cldExited && st.ExecMainStatus != 0 {
		return fmt.Errorf("%w: %s", errJournalctl, ended(st, text))
	}
	return fmt.Errorf("%s ended: %s", JournalUnit, ended(st, text))
}

// startFollowing starts the unit. Type=exec: a start job that never ends would keep the boot from
// being complete.
func (c *Client) startFollowing(ctx context.Context, argv []string) (*piped, error) {
	run, err := c.startPiped(ctx, JournalUnit, append(journalProperties(argv), Property{Name: "Type", Value: "exec"}),
		true)
	if err != nil {
		return nil, err
	}
	err = run.job.Wait(ctx)
	var failed *JobError
	if err == nil || errors.As(err, &failed) && failed.Result == "failed" {
		return run, nil // how it ended is read like any other end
	}
	run.close()
	c.endHelper(ctx, JournalUnit, true)
	return nil, err
}
