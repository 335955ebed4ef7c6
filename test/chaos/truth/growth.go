package truth

import "time"

// growth holds that the manager uses as much at the end of a round than after the first.
type growth struct {
	bounds Bounds
	first  *Manager
}

func (g *growth) see(r Record) (found []Violation) {
	if r.Settled == nil {
		return nil
	}
	now := r.Settled.Manager
	if g.first == nil {
		g.first = &now
		return nil
	}
	for _, c := range []struct {
		what            string
		was, is, atMost int
	}{
		{"KiB resident", g.first.RSSKiB, now.RSSKiB, g.bounds.RSSKiB},
		{"descriptors", g.first.Descriptors, now.Descriptors, g.bounds.Descriptors},
		{"goroutines", g.first.Goroutines, now.Goroutines, g.bounds.Goroutines},
	} {
		if c.is-c.was > c.atMost {
			found = append(found, wrong(RuleGrowth, "", "the manager (%d) has %d %s, %d at first (%d): at most %d more",
				now.PID, c.is, c.what, c.was, g.first.PID, c.atMost))
		}
	}
	return found
}

// journal holds that the manager logs a bounded number of lines.
type journal struct {
	bounds Bounds
	lines  int
	more   int // of this round
	at     time.Duration
	began  bool
}

func (j *journal) see(r Record) (found []Violation) {
	if r.Begin != nil {
		j.more = r.Begin.Lines
	}
	if r.Settled == nil {
		return nil
	}
	lines, passed := r.Settled.Journal-j.lines, r.At-j.at
	atMost := j.bounds.JournalRound + j.bounds.JournalSecond*int(passed/time.Second) + j.more
	if j.began && lines > atMost {
		found = append(found, wrong(RuleJournal, "", "%d lines in %s, at most %d", lines, passed.Round(time.Second),
			atMost))
	}
	j.lines, j.at, j.began = r.Settled.Journal, r.At, true
	return found
}
