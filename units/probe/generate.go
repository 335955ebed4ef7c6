package probe

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// Generation is a request for one token.
type Generation struct {
	URL     string
	Body    []byte // JSON
	Timeout time.Duration
	Close   bool // do not keep the connection
	// Read returns an error for a 200 whose body holds no generation.
	Read func(body []byte) error
}

// Outcome is the result of a generation.
type Outcome int

// The outcomes.
const (
	Generated Outcome = iota
	// Overloaded: the engine takes no further request at present (429, 503). It may be busy.
	Overloaded
	// Unanswered: no answer came in time. The engine may be busy or hang.
	Unanswered
	// Wrong: the response is an error or has no generation.
	Wrong
	// Unfit: the engine refuses this kind of request (any other status from 400 to 499): it serves
	// another kind of model, or requires a key. This says nothing about its health.
	Unfit
)

// Generate requests a generation. The error is nil for Generated, otherwise an *Error.
func (p *Prober) Generate(ctx context.Context, g Generation) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	q, err := questionOf(g.URL)
	if err != nil {
		return Unfit, failed(err, g.Timeout)
	}
	q.method, q.json, q.close, q.limit = http.MethodPost, g.Body, g.Close, bounds.Generation
	s := scratches.Get().(*scratch)
	defer s.release()
	a, err := p.ask(ctx, q, s)
	if err = cmp.Or(err, a.err); err != nil {
		return lost(err, g)
	}
	if a.status != http.StatusOK {
		return outcomeOf(a.status), &Error{Reason: ReasonGeneration,
			Text: fmt.Sprintf("status %d%s", a.status, quoted(a.body))}
	}
	if err := g.Read(a.body); err != nil {
		return Wrong, &Error{Reason: ReasonGeneration, Text: err.Error() + quoted(a.body), Err: err}
	}
	return Generated, nil
}

// lost returns the outcome of a generation without a response.
func lost(err error, g Generation) (Outcome, error) {
	f := failed(err, g.Timeout)
	if f.Reason == ReasonTimeout {
		return Unanswered, &Error{ReasonGeneration, f.Text, err}
	}
	return Wrong, &Error{ReasonGeneration, f.Text, err}
}

// outcomeOf classifies the statuses other than 200. TGI answers 424 when its model server failed.
func outcomeOf(status int) Outcome {
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		return Overloaded
	case status == http.StatusFailedDependency, status == http.StatusRequestTimeout:
		return Wrong
	case status >= 300 && status < 500, status == http.StatusNotImplemented:
		return Unfit
	}
	return Wrong
}
