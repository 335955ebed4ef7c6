package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// client sends requests to pinned addresses. It follows redirects itself: net/http would send a
// token on to each subdomain of the first host.
type client struct {
	transport *http.Transport
	pins      map[string][]string
	set       settings
}

func newClient(r wire.Request, set settings) (*client, error) {
	c := &client{pins: r.Hosts, set: set}
	c.transport = &http.Transport{
		DialContext:         c.dial,
		TLSHandshakeTimeout: set.connect,
		DisableCompression:  true, // a range is one of the file's bytes
		MaxIdleConnsPerHost: wire.MaxConnections,
		ReadBufferSize:      64 << 10,
		Protocols:           new(http.Protocols),
	}
	// One connection of HTTP/2 carries all ranges, and one lost packet then delays them all.
	c.transport.Protocols.SetHTTP1(true)
	if r.CAFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(r.CAFile)
	if err != nil {
		return nil, &Failure{Reason: wire.BadRequest, Message: "ca_file cannot be read", Err: err,
			Hint: "Name a file that the user of the fetch can read."}
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, &Failure{Reason: wire.BadRequest, Message: r.CAFile + " contains no certificate",
			Hint: "ca_file holds certificates in PEM."}
	}
	c.transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	return c, nil
}

func (c *client) close() { c.transport.CloseIdleConnections() }

// allowed refuses hosts that the request does not name.
func (c *client) allowed(host string) error {
	if len(c.pins[strings.ToLower(host)]) > 0 {
		return nil
	}
	return &Failure{Reason: wire.HostDenied, Host: strings.ToLower(host),
		Message: fmt.Sprintf("the download leads to %s, which is not allowed", host),
		Hint:    fmt.Sprintf("Add %q to allowed_hosts in [policy] of config.toml.", host)}
}

// dial connects to one of the pinned addresses of a host: no name is resolved here.
func (c *client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if err := c.allowed(host); err != nil {
		return nil, err
	}
	pins := c.pins[strings.ToLower(host)]
	d := net.Dialer{Timeout: c.set.connect / time.Duration(min(len(pins), 4))}
	var last error
	for _, ip := range pins {
		conn, err := d.DialContext(ctx, network, net.JoinHostPort(ip, port))
		if err == nil {
			return conn, nil
		}
		last = err
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	f := &Failure{Reason: wire.AddressStale, Message: "no address of " + host + " answers", Err: last, again: true,
		Hint: "The addresses are resolved again; check the network if it stays so."}
	if errors.Is(last, unix.ENETUNREACH) || errors.Is(last, unix.EHOSTUNREACH) {
		f.Reason, f.Hint = wire.Network, "Check the network of this host."
	}
	return nil, f
}

var errStalled = errors.New("stalled")

// do sends one request, and follows nothing. Reads of the answer fail once no byte came for a
// while.
func (c *client) do(ctx context.Context, method string, u *url.URL, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), nil)
	if err != nil {
		return nil, badAnswer(u.Hostname(), "leads to an address that is none")
	}
	if header != nil {
		req.Header = header.Clone()
	}
	return c.send(req)
}

// send sends a request, and watches over its answer.
func (c *client) send(req *http.Request) (*http.Response, error) {
	host := req.URL.Hostname()
	if err := c.allowed(host); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	req = req.Clone(ctx)
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "pool-fetch")
	w := &watched{host: host, ctx: ctx, stall: c.set.stall, cancel: cancel}
	w.timer = time.AfterFunc(c.set.stall+c.set.connect, func() { cancel(errStalled) })
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		w.timer.Stop()
		err = w.failure(err)
		cancel(nil)
		return nil, err
	}
	w.body = resp.Body
	w.timer.Stop()
	resp.Body = w
	return resp, nil
}

// watched is the body of an answer.
type watched struct {
	host   string
	ctx    context.Context
	body   io.ReadCloser
	stall  time.Duration
	timer  *time.Timer
	cancel context.CancelCauseFunc
}

func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.body.Read(p)
	w.timer.Stop() // what is done with the bytes may take long
	if err != nil && !errors.Is(err, io.EOF) {
		err = w.failure(err)
	}
	return n, err
}

func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.body.Close()
}

// failure classifies an error of a connection.
func (w *watched) failure(err error) error {
	var f *Failure
	var cert *tls.CertificateVerificationError
	cause := context.Cause(w.ctx)
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(cause, errStalled):
		return lost(fmt.Sprintf("%s sent nothing for %v", w.host, w.stall), nil)
	case cause != nil:
		return cause
	case errors.As(err, &cert):
		return &Failure{Reason: wire.BadAnswer, Err: cert.Err,
			Message: "the certificate of " + w.host + " is not trusted",
			Hint:    "Check the host's clock and certificates, or name the certificate to trust by ca_file."}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return lost(w.host+" cut the connection", nil)
	}
	return lost("the connection to "+w.host+" failed", err)
}

// lost is a connection that failed, and may be made again.
func lost(message string, err error) *Failure {
	return &Failure{Reason: wire.Network, Message: message, Err: err, again: true,
		Hint: "Check the network; what is on disk is kept."}
}

// maxRedirects is that of curl's successors: five are more than any hub makes.
const maxRedirects = 10

// follow sends a request and follows redirects. A token goes to no other host, port or scheme.
func (c *client) follow(ctx context.Context, method string, u *url.URL, header http.Header) (*http.Response, *url.URL,
	error) {
	for range maxRedirects {
		resp, err := c.do(ctx, method, u, header)
		if err != nil {
			return nil, u, err
		}
		if !redirects(resp) {
			return resp, u, nil
		}
		next, err := target(u, resp)
		discard(resp)
		if err != nil {
			return nil, u, err
		}
		if !sameOrigin(u, next) {
			header = header.Clone()
			header.Del("Authorization")
		}
		u = next
	}
	return nil, u, badAnswer(u.Hostname(), "redirects more than %d times", maxRedirects)
}

func redirects(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect,
		http.StatusPermanentRedirect:
		return true
	}
	return false
}

// target returns where a redirect leads.
func target(u *url.URL, resp *http.Response) (*url.URL, error) {
	next, err := u.Parse(resp.Header.Get("Location"))
	switch {
	case err != nil || resp.Header.Get("Location") == "" || next.Host == "":
		return nil, badAnswer(u.Hostname(), "redirects to no address")
	case next.Scheme != "https" && next.Scheme != u.Scheme || next.User != nil:
		f := badAnswer(u.Hostname(), "redirects to an address that is not encrypted")
		f.again = false
		return nil, f
	}
	return next, nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Host, b.Host)
}

// discard reads what is left of a short answer, so that the connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // longer ones are cut off with their connection
	resp.Body.Close()
}
