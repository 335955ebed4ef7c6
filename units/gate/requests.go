package gate

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// requests are the times of the gate's requests that reached the engine. They are recorded as they
// are sent and compared with those of log lines, which arrive later.
type requests struct {
	echoes time.Duration // how long after its end a request may cause lines; set before the first one

	mu    sync.Mutex
	times []request
}

// request is when one began and ended, in CLOCK_MONOTONIC as the journal has it; end is zero while
// it is under way.
type request struct{ began, ended time.Duration }

// mostRequests bounds what is kept: more than are sent within any echo.
const mostRequests = 4096

// time sends a request and records when.
func (r *requests) time(send func() heard) heard {
	r.begin()
	h := send()
	r.end(h.reached)
	return h
}

// begin records a request that is about to be sent.
func (r *requests) begin() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.times) == mostRequests {
		r.times = append(r.times[:0], r.times[mostRequests/2:]...)
	}
	r.times = append(r.times, request{began: monotonic()})
}

// end records the end of the request under way, or forgets it if it did not reach the engine.
func (r *requests) end(reached bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	newest := len(r.times) - 1
	if !reached {
		r.times = r.times[:newest]
		return
	}
	r.times[newest].ended = monotonic()
}

// echo reports whether what happened at a time may be a consequence of a request.
func (r *requests) echo(at time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := len(r.times) - 1; i >= 0; i-- {
		if q := r.times[i]; q.began <= at {
			return q.ended == 0 || at <= q.ended+r.echoes
		}
	}
	return false
}

// monotonic returns CLOCK_MONOTONIC, whose zero is about the start of the host.
func monotonic() time.Duration {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) != nil {
		return 0
	}
	return time.Duration(now.Nano())
}
