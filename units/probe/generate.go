package probe

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Generation is a request for one token.
type Generation struct {
	URL     string
	Body    []byte // JSON
	Timeout time.Duration
	Close   bool // leaves no connection open
	// Read returns an error for a 200 whose body holds no generation.
	Read func(body []byte) error
}

// Outcome is what came of a generation.
type Outcome int

// The outcomes.
const (
	Generated Outcome = iota
	// Overloaded says that the engine answered that it takes no more requests now (429, 503): it may be busy.
	Overloaded
	// Unanswered says that no answer came in time: the engine may be busy, or hang.
	Unanswered
	// Wrong says that an answer came, and it is an error or no generation.
	Wrong
	// Unfit says that the engine does not take this request at all (any other status from 400 to 499): it serves another kind of model,
	// or wants a key. Nothing follows for its health.
	Unfit
)

// generationLimit is how much of an answer to a generation is read, in bytes.
const generationLimit = 1 << 20

// Generate asks for a generation. The error is nil for Generated, else an *Error that says what came instead.
func (p *Prober) Generate(ctx context.Context, g Generation) (Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, g.Timeout)
	defer cancel()
	req, err := request(ctx, http.MethodPost, g.URL, bytes.NewReader(g.Body))
	if err != nil {
		return Unfit, failed(err, g.Timeout)
	}
	req.Close = g.Close
	req.Header.Set("Content-Type", "application/json")
	resp, err := p.client.Do(req)
	if err != nil {
		return lost(err, g)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, generationLimit))
	if err != nil {
		return lost(err, g)
	}
	if resp.StatusCode != http.StatusOK {
		return outcomeOf(resp.StatusCode), &Error{Reason: ReasonGeneration, Text: fmt.Sprintf("status %d%s", resp.StatusCode, quoted(body))}
	}
	if err := g.Read(body); err != nil {
		return Wrong, &Error{Reason: ReasonGeneration, Text: err.Error() + quoted(body), Err: err}
	}
	return Generated, nil
}

// lost is the outcome of a generation without an answer.
func lost(err error, g Generation) (Outcome, error) {
	f := failed(err, g.Timeout)
	if f.Reason == ReasonTimeout {
		return Unanswered, &Error{ReasonGeneration, f.Text, err}
	}
	return Wrong, &Error{ReasonGeneration, f.Text, err}
}

// outcomeOf sorts the statuses that are not 200. 424 is what TGI says when its model server failed.
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
