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
// collections a second and more work than the answers: then it may grow by gcBusyBytes. That is
// not more, because Go never moves an object: what is kept of a hundred pools that start at the
// same time lies scattered over the largest heap of that time, and keeps much of it resident.
const (
	gcCalm      = 50
	gcBusyMost  = 400
	gcBusyBytes = 6 << 20
	gcOften     = 100 * time.Millisecond // between two collections: busy
	gcSeldom    = 2 * time.Second        // between two collections: calm again
)

// collector adapts the limit after each collection. The runtime calls it; it needs no goroutine of
// its own, and no timer that would wake an idle process.
type collector struct {
	percent int
	last    time.Time
	live    []metrics.Sample
	calm    *time.Timer // collects after gcSeldom without a collection; nil: it was never busy
}

// tuneCollector starts to adapt the limit.
func tuneCollector() {
	c := &collector{percent: gcCalm, last: time.Now(), live: []metrics.Sample{{Name: "/gc/heap/live:bytes"}}}
	debug.SetGCPercent(c.percent)
	runtime.SetFinalizer(c, (*collector).collected)
}

// collected is called once after each collection, since nothing refers to the collector.
func (c *collector) collected() {
	now := time.Now()
	metrics.Read(c.live)
	percent := nextPercent(c.percent, now.Sub(c.last), c.live[0].Value.Uint64())
	c.last = now
	if percent != c.percent {
		c.percent = percent
		debug.SetGCPercent(percent)
	}
	c.calmLater()
	runtime.SetFinalizer(c, (*collector).collected)
}

// calmLater has memory collected and returned once the work is over. An idle manager would not
// reach the higher limit for minutes, and would keep the memory until then.
func (c *collector) calmLater() {
	switch {
	case c.percent == gcCalm:
		if c.calm != nil {
			c.calm.Stop()
		}
	case c.calm == nil:
		c.calm = time.AfterFunc(gcSeldom, debug.FreeOSMemory) // it does not refer to c
	default:
		c.calm.Reset(gcSeldom)
	}
}

// nextPercent returns the limit after a collection: since is the time from the one before, live the
// bytes in use.
func nextPercent(percent int, since time.Duration, live uint64) int {
	switch {
	case since < gcOften, percent != gcCalm && since < gcSeldom:
		return max(gcCalm, min(gcBusyMost, int(gcBusyBytes*100/max(live, 1))))
	case since < gcSeldom:
		return percent
	}
	return gcCalm
}
