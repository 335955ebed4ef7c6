package serve

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// The times of a driver that hangs, or was replaced.
const (
	// stallAfter is how long one call may take before those who wait get an answer.
	stallAfter = 2 * time.Second
	// stallExit is how long one call may take before the process gives way to a new one.
	stallExit = time.Minute
	// stallEvery is how often a call that hangs is looked at: another one may hang by now.
	stallEvery = time.Second
	// A mismatch is waited out for this long in a process that had worked with the driver: a new
	// one has the new library.
	mismatchExit = 10 * time.Second
	// In a process that never worked with it, the library was read from disk lately, and a new one
	// most likely gets the same: it need not be soon, and processes must not follow each other in a
	// loop.
	mismatchExitNew = time.Minute
	// waiterGrace is how much longer than its timeout a wait for events may take.
	waiterGrace = 10 * time.Second
)

// stall is what the loop knows of a call that does not return.
type stall struct {
	now     *wire.Stalled // nil: none
	checkAt time.Time     // while the worker is busy
	saidAt  time.Time
}

// end forgets it, and reports whether there was one.
func (s *stall) end() bool {
	was := s.now != nil
	*s = stall{}
	return was
}

// checkStall looks whether the worker's call has come back in time. The error is a *HungError.
func (h *hub) checkStall(now time.Time) error {
	if !h.busy || now.Before(h.stall.checkAt) {
		return nil
	}
	name, since := h.w.call()
	if name == "" || now.Sub(since) < stallAfter {
		h.stall.checkAt = now.Add(stallEvery)
		if name != "" && h.stall.now == nil {
			h.stall.checkAt = since.Add(stallAfter)
		}
		return nil
	}
	if now.Sub(since) >= stallExit {
		h.o.Log.Error("a call into the driver does not return: giving way to a new process", "call", name)
		return &HungError{Call: name, Since: since}
	}
	h.stall.checkAt = now.Add(stallEvery)
	if h.stall.now == nil || h.stall.now.Call != name || now.Add(stallEvery).Sub(h.stall.saidAt) > wire.Heartbeat {
		if h.stall.now == nil {
			h.o.Log.Warn("a call into the driver does not return", "call", name)
		}
		h.stall.now, h.stall.saidAt = &wire.Stalled{Call: name, Since: since}, now
		h.broadcast(wire.Reply{Stalled: h.stall.now}, now)
	}
	h.answerStalled(now)
	return nil
}

// answerStalled answers everyone who waits for a sample that there will be none.
func (h *hub) answerStalled(now time.Time) {
	for _, c := range append(h.running, h.asks...) {
		h.reply(c, wire.Reply{Stalled: h.stall.now}, now)
	}
	h.running, h.asks = nil, nil
}

// checkWaiter says once that a wait for events hangs, while everything else works.
func (h *hub) checkWaiter(now time.Time) {
	since := h.w.waitingSince()
	if since.IsZero() || now.Sub(since) < waitTimeout+waiterGrace || since.Equal(h.lagTold) {
		return
	}
	h.lagTold = since
	h.event(&nvml.Event{At: now, Kind: nvml.EventMissed, Text: "waiting for events hangs in the driver"}, now)
}

// mismatch decides when a process gives way to one that can have the driver's new library.
type mismatch struct {
	since  time.Time // of the mismatch that holds; zero: none
	worked bool      // this process had a session
}

// note takes each outcome: a problem, or nil.
func (m *mismatch) note(p *nvml.Problem, now time.Time) {
	switch {
	case p == nil:
		m.since, m.worked = time.Time{}, true
	case p.Kind != nvml.ProblemMismatch:
		m.since = time.Time{}
	case m.since.IsZero():
		m.since = now
	}
}

// at is when the process is to leave if nothing changes.
func (m *mismatch) at() (time.Time, bool) {
	if m.since.IsZero() {
		return time.Time{}, false
	}
	if m.worked {
		return m.since.Add(mismatchExit), true
	}
	return m.since.Add(mismatchExitNew), true
}

func (m *mismatch) leave(now time.Time) bool {
	at, ok := m.at()
	return ok && !now.Before(at)
}
