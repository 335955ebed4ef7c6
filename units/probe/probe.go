// Package probe asks an engine over HTTP whether it serves.
//
// It owns the connections to engines and the words for what can go wrong with one. It must not know pools,
// thresholds or what follows from an answer, and it speaks to the loopback only: an engine is on
// this host, whatever a URL says.
package probe

import (
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
)

// The reasons of a failed probe: a closed list, so that it can be a metric's label.
const (
	ReasonRefused = "refused" // nobody listens
	ReasonTimeout = "timeout"
	ReasonStatus  = "status" // another status than the one that means healthy
	ReasonReset   = "reset"  // the connection was cut
	ReasonHTTP    = "http"   // what came is no HTTP
	ReasonOther   = "other"
)

// excerpt is how many bytes of an unhappy answer are shown.
const excerpt = 160

// Error is a probe that failed.
type Error struct {
	Reason string // one of the reasons above
	Text   string
	Err    error // nil where an answer came
}

func (e *Error) Error() string { return e.Text }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Prober holds at most one idle connection per engine, so that a hundred engines every few seconds cost
// little. Its methods may be called from many goroutines.
type Prober struct {
	client *http.Client
	dialed dialed
}

// New makes a prober. It reads no proxy settings and follows no redirect: an engine that sends
// the prober elsewhere is not healthy.
func New() *Prober {
	p := &Prober{}
	p.client = &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DialContext: p.dialed.dial, MaxIdleConnsPerHost: 1, MaxConnsPerHost: 2, IdleConnTimeout: 90 * time.Second,
			DisableCompression: true, ReadBufferSize: 1 << 10, WriteBufferSize: 1 << 10, MaxResponseHeaderBytes: 16 << 10,
		},
	}
	return p
}

// Close closes the idle connections.
func (p *Prober) Close() { p.client.CloseIdleConnections() }

// CloseIdle closes the connections to the engine at host ("127.0.0.1:21000"), those in use as well. It is called before the
// engine is stopped: a server that ends gracefully waits for idle clients (Triton: up to 30 s).
func (p *Prober) CloseIdle(host string) { p.dialed.close(host) }

// Probe succeeds when a GET of the URL is answered with the wanted status before timeout. The error is an *Error.
func (p *Prober) Probe(ctx context.Context, url string, want int, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resp, err := p.get(ctx, url)
	if err != nil {
		return failed(err, timeout)
	}
	defer resp.Body.Close()
	head, err := io.ReadAll(io.LimitReader(resp.Body, excerpt))
	if resp.StatusCode != want {
		return &Error{Reason: ReasonStatus, Text: fmt.Sprintf("status %d%s, want %d", resp.StatusCode, quoted(head), want)}
	}
	if err != nil {
		return failed(err, timeout)
	}
	// The rest is read so that the connection can be used again, as far as it is worth it.
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
	return nil
}

// Get returns the body of a 200 answer, at most limit bytes of it.
func (p *Prober) Get(ctx context.Context, url string, limit int64) ([]byte, error) {
	resp, err := p.get(ctx, url)
	if err != nil {
		return nil, failed(err, 0)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, failed(err, 0)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, &Error{Reason: ReasonStatus, Text: fmt.Sprintf("status %d%s", resp.StatusCode, quoted(body))}
	}
	if int64(len(body)) > limit {
		return nil, &Error{Reason: ReasonOther, Text: fmt.Sprintf("the answer is longer than %d bytes", limit)}
	}
	return body, nil
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

func (p *Prober) get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "pool-managerd")
	return p.client.Do(req)
}

// failed puts a transport's error into a reason and a sentence.
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
		return &Error{ReasonRefused, "nobody listens on the engine's port", err}
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, net.ErrClosed),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{ReasonReset, "the engine cut the connection", err}
	case errors.Is(err, context.Canceled), errors.Is(err, errNotHere), errors.As(err, &system):
		return &Error{ReasonOther, cause(err).Error(), err}
	}
	return &Error{ReasonHTTP, "the answer is no HTTP: " + cause(err).Error(), err}
}

// cause is an error without the method and the URL that http.Client puts before it.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// quoted shows the beginning of an answer on one line.
func quoted(body []byte) string {
	text := strings.TrimSpace(string(body[:min(len(body), excerpt)]))
	if text == "" {
		return ""
	}
	return fmt.Sprintf(" (%q)", text)
}
