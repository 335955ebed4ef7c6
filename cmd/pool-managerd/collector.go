package main

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How far the heap may grow between two collections, in percent of what is in use (runtime/debug,
// SetGCPercent). The manager mostly does little, and what it leaves of the memory is for engines:
// it grows by half. While callers ask many thousand times a second, that would be a hundred
// collections a second and more work than the answers: then it may grow by gcBusyBytes. It may not
// because many pools start, which are as much work: Go never moves an object, so that what is kept
// of a hundred pools lies scattered over the largest heap of their start, and keeps much of it
// resident.
const (
	gcCalm      = 50
	gcBusyMost  = 400
	gcBusyBytes = 6 << 20
	gcOften     = 100 * time.Millisecond // between two collections: busy
	gcSeldom    = 2 * time.Second        // between two collections: calm again
	gcAnswers   = 100                    // answers between two collections: they are what is allocated for
	startTakes  = 15 * time.Second       // a manager's start, and that of its first pools
)

// collector adapts the limit after each collection. The runtime calls it; it needs no goroutine of
// its own, and no timer that would wake an idle process.
type collector struct {
	percent int
	last    time.Time
	answers func() uint64 // of the API, so far
	before  uint64        // answers at the last collection
	live    []metrics.Sample
	settles *time.Timer // after gcSeldom without a collection; nil: there was no work yet
}

// tuneCollector starts to adapt the limit to how many answers the API has given.
func tuneCollector(answers func() uint64) {
	c := &collector{percent: gcCalm, last: time.Now(), answers: answers,
		live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	debug.SetGCPercent(c.percent)
	runtime.SetFinalizer(c, (*collector).collected)
	time.AfterFunc(startTakes, settle)
}

// settle returns memory that only the work before needed. Where the pages of the program cannot be
// given up, they stay resident, and nothing else changes.
func settle() {
	debug.FreeOSMemory()
	_ = unmapProgram()
}

// collected is called once after each collection, since nothing refers to the collector.
func (c *collector) collected() {
	now := time.Now()
	metrics.Read(c.live)
	since, answers := now.Sub(c.last), c.answers()
	percent := nextPercent(c.percent, since, c.live[0].Value.Uint64(), answers-c.before)
	c.last, c.before = now, answers
	if percent != c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	if since < gcSeldom {
		c.settleLater()
	}
	runtime.SetFinalizer(c, (*collector).collected)
}

// settleLater has memory collected and returned once the work is over. An idle manager would not
// reach the limit for minutes, and would keep the memory until then.
func (c *collector) settleLater() {
	if c.settles == nil {
		c.settles = time.AfterFunc(gcSeldom, settle) // it does not refer to c
		return
	}
	c.settles.Reset(gcSeldom)
}

// nextPercent returns the limit after a collection: since is the time from the one before, live the
// bytes in use, answers how many the API gave in that time.
func nextPercent(percent int, since time.Duration, live, answers uint64) int {
	switch {
	case answers < gcAnswers:
	case since < gcOften, percent != gcCalm && since < gcSeldom:
		return max(gcCalm, min(gcBusyMost, int(gcBusyBytes*100/max(live, 1))))
	case since < gcSeldom:
		return percent
	}
	return gcCalm
}
