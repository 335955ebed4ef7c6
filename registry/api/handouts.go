package api

import (
	"slices"
	"sync"
	"time"
)

// Bounds of files that are handed out to other hosts.
const (
	mostHandouts = 16 // at the same time
	eachHandouts = 8  // of one caller: as many connections as one download has
	// slowHandout is, in bytes a second, what a caller takes at least to be sure of its place:
	// pool-fetch leaves a host that sends less.
	slowHandout   = 256 << 10
	handoutWindow = 2 * time.Second // over which that is looked at: buffers take some MB at once
	handoutGrace  = time.Second     // before a new one can be slow
)

// handouts are the files that are being sent. One whose caller takes it slowly ends when another
// caller wants its place.
type handouts struct {
	mu   sync.Mutex
	open []*handout // oldest first
}

// handout is a file that is being sent to a caller.
type handout struct {
	account account
	end     func() // ends the sending, from any goroutine; nothing after it has ended

	mu     sync.Mutex
	n      int64 // bytes that were taken in this window
	since  time.Time
	before int64         // bytes of the window before
	span   time.Duration // of that one
}

// admit adds a file, and returns the one that the caller must end for it; nil: none. Where all
// places are taken, or those of this caller, by callers that are fast enough, the new one is
// refused.
func (h *handouts) admit(o *handout, now time.Time) (ended *handout, ok bool) {
	o.since = now
	h.mu.Lock()
	defer h.mu.Unlock()
	own := 0
	for _, other := range h.open {
		if other.account == o.account {
			own++
		}
	}
	if own >= eachHandouts || len(h.open) >= mostHandouts {
		if ended = h.slowest(now, func(other *handout) bool {
			return own < eachHandouts || other.account == o.account
		}); ended == nil {
			return nil, false
		}
		h.remove(ended)
	}
	h.open = append(h.open, o)
	return ended, true
}

// slowest is the slow one of these that takes the least; nil: none is slow. The caller holds the
// lock.
func (h *handouts) slowest(now time.Time, these func(*handout) bool) (slowest *handout) {
	least := float64(slowHandout)
	for _, o := range h.open {
		if rate, known := o.rate(now); these(o) && known && rate < least {
			slowest, least = o, rate
		}
	}
	return slowest
}

// leave removes a file; a second time does nothing.
func (h *handouts) leave(o *handout) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.remove(o)
}

// remove is leave for a caller that holds the lock.
func (h *handouts) remove(o *handout) {
	if i := slices.Index(h.open, o); i >= 0 {
		h.open = slices.Delete(h.open, i, i+1)
	}
}

// add counts bytes that the caller took.
func (o *handout) add(n int64, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if age := now.Sub(o.since); age >= handoutWindow {
		o.before, o.span, o.n, o.since = o.n, age, 0, now
	}
	o.n += n
}

// rate is what the caller takes, in bytes a second; false: it has not had the time to show. A short
// pause, as of its disk, is looked at together with the window before.
func (o *handout) rate(now time.Time) (rate float64, known bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n, age := o.n, now.Sub(o.since)
	switch {
	case age < handoutWindow:
		n, age = n+o.before, age+o.span
	case age >= 2*handoutWindow: // nothing since the first of them
		n = 0
	}
	return float64(n) / max(age, 1).Seconds(), age >= handoutGrace
}
