package probe

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"time"
)

// Kind is how an engine is asked.
type Kind string

// The kinds, as a pool file names them.
const (
	HTTP Kind = "http"
	GRPC Kind = "grpc" // grpc.health.v1.Health/Check, over HTTP/2 without TLS
	TCP  Kind = "tcp"  // a connection is all that is asked for: it says little, the kernel makes it for a process that hangs, too
)

// bodyLimit is how much of a body is matched, in bytes.
const bodyLimit = 64 << 10

// Check is one question to one engine. It is a value, and is not changed by being asked.
type Check struct {
	Kind Kind
	Host string // where it listens, as "127.0.0.1:21000"

	Path   string         // HTTP
	Status int            // HTTP: the status that means healthy
	Body   *regexp.Regexp // HTTP: must match the first 64 KiB of the body; nil: any body will do

	Service string // gRPC: the service asked about, "" for the server as a whole

	Timeout time.Duration // of the whole question
	// Close leaves no connection open, for an engine that waits for idle ones when it is to stop.
	Close bool
}

// Probe succeeds when the engine answers before the check's timeout that it serves. The error is an *Error.
func (p *Prober) Probe(ctx context.Context, c Check) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	switch c.Kind {
	case GRPC:
		return p.askGRPC(ctx, c)
	case TCP:
		return p.connect(ctx, c)
	}
	return p.askHTTP(ctx, c)
}

func (p *Prober) askHTTP(ctx context.Context, c Check) error {
	req, err := request(ctx, http.MethodGet, "http://"+c.Host+c.Path, nil)
	if err != nil {
		return failed(err, c.Timeout)
	}
	req.Close = c.Close
	resp, err := p.client.Do(req)
	if err != nil {
		return failed(err, c.Timeout)
	}
	defer resp.Body.Close()
	// All of a body of a usual size is read, so that the connection can be used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	switch {
	case resp.StatusCode != c.Status:
		return &Error{Reason: ReasonStatus, Text: fmt.Sprintf("status %d%s, want %d", resp.StatusCode, quoted(body), c.Status)}
	case err != nil:
		return failed(err, c.Timeout)
	case c.Body != nil && !c.Body.Match(body):
		return &Error{Reason: ReasonBody, Text: fmt.Sprintf("the body%s does not match %q", quoted(body), c.Body)}
	}
	return nil
}

// connect is the TCP probe. Nothing is sent, and the connection is closed at once.
func (p *Prober) connect(ctx context.Context, c Check) error {
	conn, err := p.dialed.dial(ctx, "tcp", c.Host)
	if err != nil {
		f := failed(err, c.Timeout)
		if f.Reason != ReasonRefused && f.Reason != ReasonTimeout {
			f.Reason = ReasonTCP
		}
		return f
	}
	_ = conn.Close() // it was asked for nothing else
	return nil
}
