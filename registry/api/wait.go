package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// waitParameter of a request for an operation has the answer wait until the operation is over.
const waitParameter = "wait"

const (
	// maxWait is the longest wait. Longer operations are asked for again, or watched by GET.
	maxWait = time.Minute
	// waitEvery is how often a waiting request looks whether its operation is over. A look at an
	// operation of a pool is the comparison of a pointer, unless the pool's status has changed.
	waitEvery = 50 * time.Millisecond
)

const waitHint = "Write it with its unit, wait=30s for example. A longer operation goes on after the answer: GET " +
	"/v1/pools/{id} shows it, and the same request with the same Idempotency-Key waits again."

// waitOf returns how long the caller waits; 0: it does not.
func waitOf(r *http.Request) (time.Duration, error) {
	if r.URL.RawQuery == "" {
		return 0, nil
	}
	values := r.URL.Query()
	if !values.Has(waitParameter) {
		return 0, nil
	}
	given := values.Get(waitParameter)
	d, err := time.ParseDuration(given)
	if err != nil || d < 0 || d > maxWait {
		return 0, invalidParams(fmt.Sprintf("the parameter wait is %.40q; it must be a duration of 0s to %ds", given,
			int(maxWait.Seconds())), waitHint)
	}
	return d, nil
}

// linger prepares a request that may take longer than others: it takes the place of an event
// stream instead of that of a request, has no timeouts but its own, and ends with its caller and
// with the server. done gives the place back, and limits the time in which the answer is written.
func (s *Server) linger(w http.ResponseWriter, r *http.Request, within time.Duration) (
	ctx context.Context, done func(), err error) {
	ctx, cancel := context.WithTimeout(ofRequest(w, r), within)
	leave, err := s.admitStream(connectionOf(r), cancel)
	if err != nil {
		cancel()
		return nil, nil, err
	}
	w.Header().Set("Connection", "close")
	stop := context.AfterFunc(s.streaming, cancel)
	control := http.NewResponseController(w)
	done = func() {
		_ = control.SetWriteDeadline(time.Now().Add(writeTimeout)) // where it is not supported, there was none before
		stop()
		leave()
		cancel()
	}
	if err := errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{})); err != nil &&
		!errors.Is(err, http.ErrNotSupported) {
		done()
		return nil, nil, err
	}
	return ctx, done, nil
}

// waitUntil calls over until it reports true, the time has passed, the caller has left or the
// server ends. Where too many callers wait already, it returns at once.
func (s *Server) waitUntil(w http.ResponseWriter, r *http.Request, within time.Duration, over func() bool) {
	if within == 0 || over() {
		return
	}
	ctx, done, err := s.linger(w, r, within)
	if err != nil { // too many wait already; the operation goes on all the same
		return
	}
	defer done()
	look := time.NewTicker(waitEvery)
	defer look.Stop()
	for !over() {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// result is how a caller learns the end of its operation.
type result struct {
	within  time.Duration // how long it waits; 0: not at all
	ended   wire.Ended
	removes bool // there is no pool afterwards
}

// answerOperation answers an operator's request about a pool, which was last seen as p, with the
// pool: at once, or when the operation is over. The operation goes on if the wait ends before.
func (s *Server) answerOperation(w http.ResponseWriter, r *http.Request, p *registry.Pool, as result) error {
	outcome := wire.Operation{}
	var seen *registry.Pool
	s.waitUntil(w, r, as.within, func() bool {
		now, ok := s.registry.Find(p.ID)
		switch {
		case !ok:
			outcome.Done = true
			if !as.removes {
				outcome = failedOperation(errors.New("the pool was removed meanwhile"))
			}
		case now != seen:
			seen, p = now, now
			over, failure := as.ended(wire.PoolOf(now))
			if outcome.Done = over; failure != nil {
				outcome = failedOperation(failure)
			}
		}
		return outcome.Done
	})
	body := wire.PoolOf(s.registry.Devices().PoolAt(p, s.now()))
	if as.within == 0 {
		return answerStatus(w, http.StatusAccepted, body)
	}
	body.Operation = &outcome
	if !outcome.Done {
		return answerStatus(w, http.StatusAccepted, body)
	}
	return answer(w, body)
}

func failedOperation(why error) wire.Operation {
	text := why.Error()
	return wire.Operation{Done: true, Error: &text}
}
