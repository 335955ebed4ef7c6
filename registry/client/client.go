// Package client asks the API of a host's manager, for poolctl and for programs in Go that place
// work on hosts: a method for each operation, written from docs/openapi.yaml, with the types of the
// package wire.
//
// It owns how a request is sent, its time, and the types of its errors: *Failure is an answer of
// the API that is an error, *Unreachable is no answer, *Unexpected an answer that the API does not
// give. It must not know what a caller does with an answer.
//
// A request is sent once: repeating one is the caller's decision, with an IdempotencyKey where the
// operation takes one. Its context ends it at any time, whatever the operation then does.
package client

//go:generate go test . -run ^TestGenerated$ -update

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Timeout bounds one request where Options have none. It is longer than a restart of the manager
// takes, during which a connection waits in the socket.
const Timeout = 15 * time.Second

// answerLimit bounds what is read of an answer, in bytes.
const answerLimit = 64 << 20

// Options are where the API is, and how it is asked. Exactly one of Sockets and URL is given.
type Options struct {
	Sockets []string    // unix sockets; the first that can be connected to is used
	URL     string      // http://HOST:PORT or https://HOST:PORT
	Token   string      // for URL
	TLS     *tls.Config // for URL; nil: the authorities that the host trusts
	// OneShot closes each connection after its request: a manager that ends then waits for no idle
	// connection.
	OneShot bool
	// Timeout bounds a request, without the time that it waits for the end of an operation; 0:
	// Timeout of this package. Preloads have their context alone.
	Timeout time.Duration
	// ReadTimeout is the same for requests that change nothing, and how long a stream of events may
	// be silent that is not followed; 0: as Timeout.
	ReadTimeout time.Duration
	// CorrelationID identifies the requests of this client in the manager's log; empty: each has an
	// id of its own.
	CorrelationID string
}

// Client asks one host's manager. It may be used by many goroutines. Make one with New.
type Client struct {
	http        *http.Client
	base        string // before the path
	addr        string // for messages
	token       string
	correlation string
	timeout     time.Duration
	readTimeout time.Duration
}

// New returns a client. Nothing is connected to yet.
func New(o Options) (*Client, error) {
	transport := &http.Transport{DisableKeepAlives: o.OneShot, TLSClientConfig: o.TLS, ForceAttemptHTTP2: o.TLS != nil}
	c := &Client{token: o.Token, correlation: o.CorrelationID, timeout: o.Timeout, http: &http.Client{
		Transport: transport,
		// the API redirects nowhere: what does is another program, which gets no token
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.timeout = cmp.Or(c.timeout, Timeout)
	c.readTimeout = cmp.Or(o.ReadTimeout, c.timeout)
	switch {
	case (len(o.Sockets) > 0) == (o.URL != ""):
		return nil, errors.New("the API is reached by its sockets or by a URL: one of them is needed")
	case o.URL == "":
		c.base, c.addr = "http://pool-managerd", o.Sockets[len(o.Sockets)-1]
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialFirst(ctx, o.Sockets)
		}
		return c, nil
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, errors.New("the URL is not of the form http://HOST:PORT") // it may have a secret in it
	}
	c.base, c.addr = strings.TrimRight(u.String(), "/"), u.Host
	return c, nil
}

// Answer is what a request got.
type Answer[T any] struct {
	Value       T
	Raw         []byte // as it was sent
	Status      int
	ETag        string // of a list
	NotModified bool   // the list is that of IfNoneMatch, and Value is empty
}

// None is the value of an answer without a body.
type None struct{}

// request is one operation's.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	body         any           // nil: none
	wait         time.Duration // for the end of an operation, beyond the client's timeout
	unbounded    bool          // its time is that of its context
}

// pathOf returns a path with the values of its parameters, escaped, in their order.
func pathOf(template string, values ...string) string {
	var b strings.Builder
	for _, value := range values {
		before, rest, _ := strings.Cut(template, "{")
		_, template, _ = strings.Cut(rest, "}")
		b.WriteString(before + url.PathEscape(value))
	}
	return b.String() + template
}

// set adds a parameter of the query, without a value none.
func (r *request) set(name, value string) {
	if value == "" {
		return
	}
	if r.query == nil {
		r.query = make(url.Values)
	}
	r.query.Set(name, value)
}

// setHeader adds a parameter of the header, without a value none.
func (r *request) setHeader(name, value string) {
	if value == "" {
		return
	}
	if r.header == nil {
		r.header = make(http.Header)
	}
	r.header.Set(name, value)
}

// setFlag adds a parameter of the query that has a default, nil for that.
func (r *request) setFlag(name string, value *bool) {
	if value != nil {
		r.set(name, fmt.Sprint(*value))
	}
}

// setWait has the answer wait for the end of the operation.
func (r *request) setWait(name string, d time.Duration) {
	if d > 0 {
		r.wait = d
		r.set(name, d.String())
	}
}

// send sends a request and decodes its answer: JSON, or text into a string.
func send[T any](ctx context.Context, c *Client, r request) (Answer[T], error) {
	var a Answer[T]
	if !r.unbounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, c.within(r), &silence{c.within(r)})
		defer cancel()
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.Status, a.ETag = resp.StatusCode, resp.Header.Get("ETag")
	if a.NotModified = a.Status == http.StatusNotModified; a.NotModified {
		return a, nil
	}
	if a.Raw, err = io.ReadAll(io.LimitReader(resp.Body, answerLimit)); err != nil {
		return a, c.noAnswer(ctx, err)
	}
	switch into := any(&a.Value).(type) {
	case *None:
	case *string:
		*into = string(a.Raw)
	default:
		if err := json.Unmarshal(a.Raw, into); err != nil {
			return a, &Unexpected{c.addr + r.path, "is not what this version expects", err}
		}
	}
	return a, nil
}

// within is how long a request may take.
func (c *Client) within(r request) time.Duration {
	if r.method == http.MethodGet {
		return c.readTimeout
	}
	return c.timeout + r.wait
}

// do sends a request. The answer is one of success, or 304; any other is the error.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	var content []byte
	if r.body != nil {
		var err error
		if content, err = wire.Encode(r.body); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
	}
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	for name, values := range r.header {
		req.Header[name] = values
	}
	if r.method != http.MethodGet { // a POST without a body needs it too where there is no token
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if c.correlation != "" {
		req.Header.Set("X-Correlation-Id", c.correlation)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.noAnswer(ctx, err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return nil, c.noAnswer(ctx, err)
	}
	f := &Failure{Status: resp.StatusCode}
	if json.Unmarshal(body, &f.Answer) != nil || f.Answer.Code == "" {
		return nil, &Unexpected{c.addr, "is " + resp.Status + ", which is not an answer of pool-managerd; is it the " +
			"address of another program?", nil}
	}
	return nil, f
}
