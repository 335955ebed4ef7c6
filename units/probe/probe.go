// Package probe checks whether an engine serves: over HTTP, by gRPC's health protocol, by a TCP
// connection, and with a real generation.
//
// It owns the connections to engines and the reasons of a failed probe. It must not know pools,
// thresholds or the consequences of a failure, and it connects to the loopback only: an engine is
// on this host, whatever a URL says.
package probe

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

// The reasons of a failed probe, a closed list for the label of a metric.
const (
	ReasonRefused = "refused" // nothing listens on the port
	ReasonTimeout = "timeout"
	ReasonStatus  = "status" // not the expected status
	ReasonReset   = "reset"  // the engine closed the connection before its answer was complete
	ReasonHTTP    = "http"   // the answer is not HTTP
	ReasonBody    = "body"   // the status is right, but not the body
	ReasonGRPC    = "grpc"   // the response is not gRPC, or its status is not SERVING
	ReasonTCP     = "tcp"    // no connection, for another reason
	// ReasonGeneration: a generation failed although the engine answers its probe.
	ReasonGeneration = "generation"
	ReasonOther      = "other"
)

// Reasons returns all of them.
func Reasons() []string {
	return []string{ReasonRefused, ReasonTimeout, ReasonStatus, ReasonReset, ReasonHTTP, ReasonBody, ReasonGRPC,
		ReasonTCP, ReasonGeneration, ReasonOther}
}

// Error is a probe that failed.
type Error struct {
	Reason string // one of the reasons above
	Text   string
	Err    error // nil if there was a response
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ErrTooLong is wrapped by an error of Get: the answer is longer than the limit.
var ErrTooLong = errors.New("the answer is too long")

// userAgent appears in an engine's access log.
const userAgent = "pool-managerd"

// Prober keeps at most one idle connection per engine and protocol, so that a hundred engines every
// few seconds cost little. Its methods may be called from many goroutines; an engine that does not
// answer delays only the caller that asks it.
//
// HTTP/1.1 is spoken by this package itself (exchange.go, http1.go): the library's client has two
// goroutines and two buffers for each idle connection, 24 KB of memory, and takes twice the
// processor time for a probe.
type Prober struct {
	client *http.Client // for TLS
	h2     *http.Client // HTTP/2 without TLS, for gRPC
	dialed dialed
	keys   keys
}

// maxConns bounds the connections of each of the two clients to one engine.
const maxConns = 4

// New returns a Prober. It uses no proxy and follows no redirect: an engine that redirects is not
// healthy.
func New() *Prober {
	p := &Prober{}
	p.client, p.h2 = client(p.transport()), client(p.transport())
	var h2c http.Protocols
	h2c.SetUnencryptedHTTP2(true)
	p.h2.Transport.(*http.Transport).Protocols = &h2c
	return p
}

func client(t *http.Transport) *http.Client {
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
}

func (p *Prober) transport() *http.Transport {
	return &http.Transport{
		DialContext: p.dialed.dial, MaxIdleConnsPerHost: 1, MaxConnsPerHost: maxConns, IdleConnTimeout: idleMax,
		DisableCompression: true, ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10,
		MaxResponseHeaderBytes: bounds.Header,
	}
}

// Close closes the idle connections.
func (p *Prober) Close() {
	p.dialed.closeIdle()
	p.client.CloseIdleConnections()
	p.h2.CloseIdleConnections()
}

// CloseIdle closes the connections to the engine at host ("127.0.0.1:21000"), those in use as well.
// It is called before the engine is stopped: a server that ends gracefully waits for idle clients
// (Triton: up to 30 s).
func (p *Prober) CloseIdle(host string) { p.dialed.close(strings.TrimPrefix(host, tlsPrefix)) }

// Get returns the body of a 200 answer, at most limit bytes of it.
func (p *Prober) Get(ctx context.Context, url string, limit int64) ([]byte, error) {
	q, err := questionOf(url)
	if err != nil {
		return nil, failed(err, 0)
	}
	q.method, q.limit = http.MethodGet, int(limit)+1
	s := scratches.Get().(*scratch)
	defer s.release()
	a, err := p.ask(ctx, q, s)
	if err = cmp.Or(err, a.err); err != nil {
		return nil, failed(err, 0)
	}
	if a.status != http.StatusOK {
		return nil, &Error{Reason: ReasonStatus, Text: fmt.Sprintf("status %d%s", a.status, quoted(a.body))}
	}
	if int64(len(a.body)) > limit {
		return nil, &Error{ReasonOther, fmt.Sprintf("the answer is longer than %d bytes", limit), ErrTooLong}
	}
	return bytes.Clone(a.body), nil
}

// questionOf converts a URL to a request.
func questionOf(text string) (question, error) {
	u, err := url.Parse(text)
	if err != nil {
		return question{}, err
	}
	switch u.Scheme {
	case "http":
		return question{host: u.Host, target: u.RequestURI()}, nil
	case "https":
		return question{host: tlsPrefix + u.Host, target: u.RequestURI()}, nil
	}
	return question{}, fmt.Errorf("%q is not a URL of http or https", text)
}

// Reason returns one of the reasons for an error of Probe or Get, "" for nil.
func (p *Prober) Reason(err error) string {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Reason
	}
	return ReasonOther
}

func request(ctx context.Context, method, url string, body io.Reader) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "pool-managerd")
	return req, nil
}

// failed converts a transport error to a reason and a message.
func failed(err error, timeout time.Duration) *Error {
	var system syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), os.IsTimeout(err):
		text := "no answer in time"
		if timeout > 0 {
			text = fmt.Sprintf("no answer within %s", timeout)
		}
		return &Error{ReasonTimeout, text, err}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &Error{ReasonRefused, "nothing listens on the engine's port", err}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{ReasonReset, "the engine closed the connection before its answer was complete", err}
	case errors.Is(err, context.Canceled), errors.Is(err, errNotHere), errors.As(err, &system):
		return &Error{ReasonOther, cause(err).Error(), err}
	}
	return &Error{ReasonHTTP, "the answer is not HTTP: " + brief(cause(err)), err}
}

// brief is the text of an error of a client of HTTP, which may quote the engine at any length.
func brief(err error) string {
	const most = 2 * bounds.Excerpt
	text := strings.ToValidUTF8(err.Error(), "")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}

// cause returns an error without the method and the URL that http.Client adds.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// quoted formats the beginning of a response on one line.
func quoted(body []byte) string {
	text := strings.TrimSpace(string(body[:min(len(body), bounds.Excerpt)]))
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", text)
}
