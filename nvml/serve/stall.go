package serve

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// Time limits for a driver that hangs or was replaced.
const (
	// stallAfter is how long a call may take before waiting requests are answered without it.
	stallAfter = 2 * time.Second
	// stallExit is how long a call may take before the process exits, to be replaced by a new one.
	stallExit = time.Minute
	// stallEvery is the interval between checks of a hanging call: another call may hang by then.
	stallEvery = time.Second
	// How long a mismatch may last in a process that had worked with the driver: a new process
	// loads the new library.
	mismatchExit = 10 * time.Second
	// In a process that never worked with the driver, the library was loaded recently, and a new
	// process most likely loads the same one: wait longer, so that processes do not restart in a
	// loop.
	mismatchExitNew = time.Minute
	// waiterGrace is how much longer than its timeout a wait for events may take.
	waiterGrace = 10 * time.Second
)

// stall is what the loop knows about a call that does not return.
type stall struct {
	now        *wire.Stalled // nil: none
	checkAt    time.Time     // next check, while the worker is busy
	reportedAt time.Time
}

// end clears the stall and reports whether there was one.
func (s *stall) end() bool {
	was := s.now != nil
	*s = stall{}
	return was
}

// checkStall checks whether the worker's call takes too long. The error is a *HungError.
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
		h.o.Log.Error("exiting: a call into the driver does not return", "call", name)
		return &HungError{Call: name, Since: since}
	}
	h.stall.checkAt = now.Add(stallEvery)
	if h.stall.now == nil || h.stall.now.Call != name || now.Add(stallEvery).Sub(h.stall.reportedAt) > wire.Heartbeat {
		if h.stall.now == nil {
			h.o.Log.Warn("a call into the driver does not return", "call", name)
		}
		h.stall.now, h.stall.reportedAt = &wire.Stalled{Call: name, Since: since}, now
		h.broadcast(wire.Reply{Stalled: h.stall.now}, now)
	}
	h.answerStalled(now)
	return nil
}

// answerStalled answers all requests that wait for a sample.
func (h *hub) answerStalled(now time.Time) {
	for _, c := range append(h.running, h.asks...) {
		h.reply(c, wire.Reply{Stalled: h.stall.now}, now)
	}
	h.running, h.asks = nil, nil
}

// checkWaiter reports once that a wait for events hangs while everything else works.
func (h *hub) checkWaiter(now time.Time) {
	since := h.w.waitingSince()
	if since.IsZero() || now.Sub(since) < waitTimeout+waiterGrace || since.Equal(h.lagReported) {
		return
	}
	h.lagReported = since
	h.event(&nvml.Event{At: now, Kind: nvml.EventMissed, Text: "the wait for events hangs in the driver"}, now)
}

// mismatch decides when the process exits, so that a new one can load the driver's new library.
type mismatch struct {
	since  time.Time // start of the current mismatch; zero: none
	worked bool      // this process had a session
}

// note records an outcome: a problem, or nil.
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

// at returns when the process must exit if nothing changes.
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
