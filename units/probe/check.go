package probe

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// Kind is the protocol of a probe.
type Kind string

// The kinds, as a pool file names them.
const (
	HTTP Kind = "http"
	GRPC Kind = "grpc" // grpc.health.v1.Health/Check, over HTTP/2 without TLS
	// a connection only: weak evidence, since the kernel accepts it even if the process hangs
	TCP Kind = "tcp"
)

// Check is one probe of one engine, as a value.
type Check struct {
	Kind Kind
	Host string // where it listens, as "127.0.0.1:21000"

	Path   string         // HTTP
	Status int            // HTTP: the status that means healthy
	Body   *regexp.Regexp // HTTP: must match the first 64 KiB of the body; nil: any body

	Service string // gRPC: the service; "": the whole server

	Timeout time.Duration // of the whole probe
	// Close leaves no connection open, for an engine that waits for idle connections when it stops.
	Close bool
}

// Probe succeeds if the engine reports before the check's timeout that it serves. The error is an
// *Error.
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
	s := scratches.Get().(*scratch)
	defer s.release()
	a, err := p.ask(ctx, c.question(), s)
	return c.verdict(a, err)
}

// question is the request of an HTTP probe. A body of usual size is read completely, so that the
// connection can be reused.
func (c *Check) question() question {
	return question{method: http.MethodGet, host: c.Host, target: c.Path, close: c.Close, limit: bounds.HealthBody}
}

// plain reports whether a check is one request over HTTP/1.1 on a connection that is kept.
func (c *Check) plain() bool {
	return c.Kind != GRPC && c.Kind != TCP && !c.Close && !strings.HasPrefix(c.Host, tlsPrefix)
}

// verdict is the result of an HTTP probe.
func (c *Check) verdict(a answer, err error) error {
	switch {
	case err != nil:
		return failed(err, c.Timeout)
	case a.status != c.Status:
		return &Error{Reason: ReasonStatus, Text: fmt.Sprintf("status %d%s, want %d", a.status, quoted(a.body),
			c.Status)}
	case a.err != nil:
		f := failed(a.err, c.Timeout)
		if f.Reason == ReasonTimeout {
			f.Text = fmt.Sprintf("status %d, and an answer that did not end within %s", a.status, c.Timeout)
		}
		return f
	case c.Body != nil && !c.Body.Match(a.body):
		return &Error{Reason: ReasonBody, Text: fmt.Sprintf("the body%s does not match %q", quoted(a.body), c.Body)}
	}
	return nil
}

// connect is the TCP probe. It sends nothing and closes the connection at once.
func (p *Prober) connect(ctx context.Context, c Check) error {
	conn, err := p.dialed.dial(ctx, "tcp", c.Host)
	if err != nil {
		f := failed(err, c.Timeout)
		if f.Reason != ReasonRefused && f.Reason != ReasonTimeout {
			f.Reason = ReasonTCP
		}
		return f
	}
	_ = conn.Close() // the connection is the whole answer
	return nil
}
