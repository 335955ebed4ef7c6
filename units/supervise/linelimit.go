package supervise

import (
	"log/slog"
	"time"
)

// Bounds of the lines that are acted on. A writer that exceeds them harms itself: its further lines
// are counted and not handled, and those of others are.
const (
	linesEvery  = 10 * time.Second
	linesMost   = 20   // of one writer, in linesEvery
	mostWriters = 4096 // more units than a host has engines
)

// lineLimit bounds how many classified lines of each writer reach the loop: the kernel, and each
// engine. It belongs to the goroutine that follows the log.
type lineLimit struct {
	log   *slog.Logger
	since time.Time
	taken map[string]int // in the current period, by unit; "": the kernel
}

func newLineLimit(log *slog.Logger) *lineLimit {
	return &lineLimit{log: log, taken: make(map[string]int)}
}

// take reports whether a line of this writer is handled.
func (l *lineLimit) take(unit string, now time.Time) bool {
	if now.Sub(l.since).Abs() >= linesEvery {
		l.report()
		clear(l.taken)
		l.since = now
	}
	if _, known := l.taken[unit]; !known && len(l.taken) >= mostWriters {
		return false
	}
	l.taken[unit]++
	return l.taken[unit] <= linesMost
}

// report logs which writers had more lines than were handled.
func (l *lineLimit) report() {
	for unit, n := range l.taken {
		if n > linesMost {
			l.log.Warn("log lines about GPU errors were not handled: too many in a short time",
				append(aboutUnit(unit), "log_lines", n-linesMost, "window_ms", linesEvery.Milliseconds())...)
		}
	}
}
