package serve

import (
	"context"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// Intervals of the loop.
const (
	// The retry interval of a driver that cannot be opened, doubling.
	openRetry, openRetryLast = time.Second, 60 * time.Second
	// While a GPU does not answer, the session is restarted after this, doubling: a GPU that was
	// reset appears in a new session only.
	reopenRetry, reopenRetryLast = 5 * time.Second, 60 * time.Second
	// sweepEvery is the interval between checks of the reservations.
	sweepEvery = 2 * time.Second
	// endWithin bounds the wait for the driver at shutdown.
	endWithin = 3 * time.Second
)

// hub is the state of the server, owned by the goroutine of run. Only the channels are for other
// goroutines.
type hub struct {
	o      Options
	w      *worker
	joined chan *client
	left   chan *client

	followers map[*client]struct{}
	asks      []*client // requests that wait for the next sample
	running   []*client // requests that wait for the running sample
	ledger    *ledger
	sweepAt   time.Time

	busy     bool // the worker has a job
	began    time.Time
	reopened bool // by the running job
	watching bool // events are wanted, as last requested from the worker
	sampleAt time.Time

	last    *nvml.Snapshot // nil: none yet
	sent    *nvml.Snapshot // last sent to followers
	problem *nvml.Problem  // of the driver as a whole
	openAt  time.Time      // no attempt before, while there is a problem
	opening backoff
	// While a GPU does not answer:
	reopenAt  time.Time
	reopening backoff
	failing   bool // a GPU did not answer at some time in this session

	stall       stall
	mismatch    mismatch
	lagReported time.Time // the hanging wait that followers were notified of
}

func newHub(o Options) *hub {
	return &hub{
		o: o, w: startWorker(o.Library), joined: make(chan *client), left: make(chan *client),
		followers: make(map[*client]struct{}), ledger: newLedger(),
		opening:   backoff{first: openRetry, last: openRetryLast},
		reopening: backoff{first: reopenRetry, last: reopenRetryLast},
	}
}

// run is the loop. It never blocks on the driver or on a client.
func (h *hub) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	defer h.end()
	for {
		now := time.Now()
		if err := h.turn(now); err != nil {
			return err
		}
		timer.Reset(h.nextTurn(now).Sub(now))
		select {
		case <-ctx.Done():
			return nil
		case c := <-h.joined:
			h.join(c, time.Now())
		case c := <-h.left:
			h.drop(c)
		case r := <-h.w.results:
			h.finish(r, time.Now())
		case e := <-h.w.events:
			h.event(e, time.Now())
		case <-timer.C:
		}
	}
}

// turn does what is due at that time.
func (h *hub) turn(now time.Time) error {
	if err := h.checkStall(now); err != nil {
		return err
	}
	if h.mismatch.leave(now) {
		h.o.Log.Warn("exiting: the driver was replaced, and a new process is needed to load its library")
		return ErrMismatch
	}
	if len(h.ledger.reservations) > 0 && !now.Before(h.sweepAt) {
		h.sweepAt = now.Add(sweepEvery)
		for _, unit := range h.ledger.expire(now, h.o.Populated) {
			h.o.Log.Info("the reservation of GPU memory has expired", "unit", unit)
		}
	}
	h.breakSilence(now)
	h.begin(now)
	return nil
}

// silentUntil returns when a follower that had a snapshot must get the next line.
func (h *hub) silentUntil(c *client) time.Time {
	return c.sent.Add(max(wire.Heartbeat, h.interval()))
}

// breakSilence repeats the last snapshot while a sample takes long although no call hangs.
func (h *hub) breakSilence(now time.Time) {
	if h.stall.now != nil {
		return // checkStall sends lines
	}
	for _, c := range h.all() {
		if c.following && !now.Before(h.silentUntil(c)) {
			h.send(c, encode(wire.Reply{Snapshot: h.last}), now)
		}
	}
}

// nextTurn returns when turn must run again.
func (h *hub) nextTurn(now time.Time) time.Time {
	next := now.Add(time.Minute)
	sooner := func(at time.Time) {
		if at.Before(next) {
			next = at
		}
	}
	if h.stall.now == nil {
		for c := range h.followers {
			if c.following {
				sooner(h.silentUntil(c))
			}
		}
	}
	if h.busy {
		sooner(h.stall.checkAt)
	} else if len(h.followers) > 0 {
		sooner(h.sampleAt)
	}
	if len(h.ledger.reservations) > 0 {
		sooner(h.sweepAt)
	}
	if at, ok := h.mismatch.at(); ok {
		sooner(at)
	}
	return next
}

// begin gives the worker a job if there is one.
func (h *hub) begin(now time.Time) {
	if h.busy {
		return
	}
	watch := len(h.followers) > 0
	sample := len(h.asks) > 0 || watch && !now.Before(h.sampleAt)
	if sample && h.problem != nil && now.Before(h.openAt) { // known to fail: repeat what is known
		h.last = noDriver(h.problem, now)
		h.sampleAt = now.Add(h.interval())
		h.running, h.asks = h.asks, nil
		h.publish(now, false)
		sample = false
	}
	if !sample && (watch || !h.watching) {
		return
	}
	h.reopened = sample && !h.reopenAt.IsZero() && !now.Before(h.reopenAt)
	if sample {
		h.running, h.asks = h.asks, nil
		h.sampleAt = now.Add(h.interval())
	}
	if h.reopened {
		h.o.Log.Info("restarting NVML: a GPU does not answer, or has just recovered")
	}
	h.busy, h.began, h.watching = true, now, watch
	h.stall.checkAt = now.Add(stallAfter)
	h.w.jobs <- job{watch: watch, sample: sample, reopen: h.reopened}
}

// finish handles the worker's outcome.
func (h *hub) finish(r outcome, now time.Time) {
	h.busy = false
	ended := h.stall.end()
	if ended {
		h.o.Log.Info("the NVIDIA driver responds again")
	}
	switch {
	case r.problem != nil:
		h.fail(r.problem, now)
	case r.snapshot != nil:
		h.succeed(r.snapshot, now)
	default:
		return
	}
	if rest := now.Add(now.Sub(h.began)); rest.After(h.sampleAt) {
		h.sampleAt = rest // sampling takes at most half of a slow driver's time
	}
	h.publish(now, ended)
	h.checkWaiter(now)
}

func (h *hub) fail(p *nvml.Problem, now time.Time) {
	if h.problem == nil || *h.problem != *p {
		h.o.Log.Warn("the NVIDIA driver is unavailable", "kind", p.Kind, "code", p.Code, "err", p.Text)
	}
	h.problem, h.last, h.watching, h.failing = p, noDriver(p, now), false, false
	h.openAt = now.Add(h.opening.next())
	h.reopenAt = time.Time{}
	h.mismatch.note(p, now)
}

func (h *hub) succeed(s *nvml.Snapshot, now time.Time) {
	if h.problem != nil || h.last == nil {
		h.o.Log.Info("the NVIDIA driver is available", "driver", s.Driver.Version, "devices", len(s.Devices), "missing",
			strings.Join(s.Driver.Missing, " "))
	}
	h.logDevices(s)
	h.problem, h.last = nil, s
	h.opening.reset()
	h.mismatch.note(nil, now)
	h.planReopen(s, now)
}

// planReopen decides whether to restart the session: with a backoff while a GPU does not answer,
// and once after all answer again, since events are registered at the start of a session, only for
// GPUs that answer then.
func (h *hub) planReopen(s *nvml.Snapshot, now time.Time) {
	switch failing := slices.ContainsFunc(s.Devices, func(d nvml.Device) bool { return d.Problem != nil }); {
	case failing:
		h.failing = true
		if h.reopened || h.reopenAt.IsZero() {
			h.reopenAt = now.Add(h.reopening.next())
		}
	case h.failing && !h.reopened:
		h.reopenAt = now
	default:
		h.failing = false
		h.reopening.reset()
		h.reopenAt = time.Time{}
	}
}

// logDevices logs once that a GPU stops or begins to answer.
func (h *hub) logDevices(s *nvml.Snapshot) {
	for _, d := range s.Devices {
		var before nvml.Device
		if h.last != nil {
			// A GPU that was never identified has no UUID, only an index.
			if at := slices.IndexFunc(h.last.Devices, func(l nvml.Device) bool {
				return l.UUID == d.UUID && (d.UUID != "" || l.Index == d.Index)
			}); at >= 0 {
				before = h.last.Devices[at]
			}
		}
		switch {
		case d.Problem != nil && before.Problem == nil:
			h.o.Log.Warn("a GPU does not answer", "device", d.UUID, "index", d.Index, "kind", d.Problem.Kind, "err",
				d.Problem.Text)
		case d.Problem == nil && before.Problem != nil:
			h.o.Log.Info("a GPU answers again", "device", d.UUID, "index", d.Index)
		}
	}
}

// publish answers the requests that wait for the sample and sends it to followers. If only Taken
// changed and no request waits, it sends a line only as often as the heartbeat requires.
func (h *hub) publish(now time.Time, force bool) {
	for _, c := range h.running {
		h.reply(c, h.answer(c, now), now)
	}
	h.running = nil
	changed := force || h.sent == nil || !same(h.sent, h.last)
	h.sent = h.last
	var line []byte
	for _, c := range h.all() {
		if !changed && c.following && now.Add(h.interval()).Sub(c.sent) <= wire.Heartbeat {
			continue
		}
		if line == nil {
			line = encode(wire.Reply{Snapshot: h.last})
		}
		c.following = true
		h.send(c, line, now)
	}
}

// same compares everything but the time.
func same(a, b *nvml.Snapshot) bool {
	x, y := *a, *b
	x.Taken, y.Taken = time.Time{}, time.Time{}
	return reflect.DeepEqual(x, y)
}

// event sends an event to followers at once and schedules a sample, since an event often means that
// something else has changed.
func (h *hub) event(e *nvml.Event, now time.Time) {
	if e == nil {
		e = &nvml.Event{At: now, Kind: nvml.EventMissed, Text: "waiting for events failed"}
	}
	h.o.Log.Warn("driver event", "kind", e.Kind, "device", e.Device, "code", e.Code, "text", e.Text)
	h.broadcast(wire.Reply{Event: e}, now)
	soon := h.began.Add(shortestInterval)
	if soon.Before(h.sampleAt) {
		h.sampleAt = soon
	}
}

func (h *hub) broadcast(r wire.Reply, now time.Time) {
	if len(h.followers) == 0 {
		return
	}
	line := encode(r)
	for _, c := range h.all() {
		h.send(c, line, now)
	}
}

// all returns a copy of the followers, so that one may be dropped during iteration.
func (h *hub) all() []*client { return slices.Collect(maps.Keys(h.followers)) }

// send never blocks: a follower that is too far behind is disconnected and may reconnect.
func (h *hub) send(c *client, line []byte, now time.Time) {
	select {
	case c.lines <- line:
		c.sent = now
	default:
		h.o.Log.Warn("dropped a follower that does not read")
		h.drop(c)
		c.conn.Close()
	}
}

func (h *hub) drop(c *client) {
	if _, ok := h.followers[c]; ok {
		delete(h.followers, c)
		close(c.lines)
	}
}

// reply sends the answer to a request.
func (h *hub) reply(c *client, r wire.Reply, now time.Time) {
	h.send(c, encode(r), now)
	close(c.lines)
}

// interval returns the shortest interval that a follower requested.
func (h *hub) interval() time.Duration {
	shortest := time.Duration(0)
	for c := range h.followers {
		wish := DefaultInterval
		if ms := c.req.IntervalMS; ms > 0 {
			wish = time.Duration(min(ms, longestInterval.Milliseconds())) * time.Millisecond
		}
		if shortest == 0 || wish < shortest {
			shortest = wish
		}
	}
	if shortest == 0 {
		return DefaultInterval
	}
	return max(shortest, shortestInterval)
}

// end makes the worker close the session, if the driver does not hang.
func (h *hub) end() {
	close(h.w.jobs)
	select {
	case <-h.w.ended:
	case <-time.After(endWithin):
		name, _ := h.w.call()
		h.o.Log.Warn("could not close the driver's session: a call does not return", "call", name)
	}
}
