package main

import (
	"bytes"
	"context"
	"encoding/json"
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

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// requestTimeout bounds one request. It is longer than a restart of the daemon takes, during which
// a connection waits in the socket.
const requestTimeout = 15 * time.Second

// answerLimit bounds what is read of an answer, in bytes.
const answerLimit = 64 << 20

// client asks the API.
type client struct {
	http  *http.Client
	base  string // before the path
	token string
	addr  string // for messages
}

// newClient uses the URL if one is given, else the unix socket. Each request has its own
// connection: a daemon that restarts need not wait for an idle connection of a watch.
func newClient(o options) (*client, error) {
	if o.url == "" {
		if o.tokenFile != "" {
			return nil, usage("--token-file goes with --url; the unix socket needs no token")
		}
		dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return dialSocket(ctx, o.socket) }
		return &client{http: &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}},
			base: "http://pool-managerd", addr: o.socket}, nil
	}
	u, err := url.Parse(o.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, usage("--url %q is not of the form http://HOST:PORT", o.url)
	}
	c := &client{http: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}},
		base: strings.TrimRight(u.String(), "/"), addr: u.Host}
	if o.tokenFile != "" {
		body, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return nil, &failed{fmt.Errorf("the token file: %w", err)}
		}
		c.token = strings.TrimSpace(string(body))
	}
	return c, nil
}

// dialPause is the pause before a full socket is tried again.
const dialPause = 5 * time.Millisecond

// dialSocket connects to the daemon's socket. While more callers wait there than it has room for,
// the kernel refuses a connection at once (EAGAIN): it is tried again until ctx ends.
func dialSocket(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "unix", socket)
		if !errors.Is(err, syscall.EAGAIN) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(dialPause):
		}
	}
}

// get returns the body of a successful answer. An error with an exit status of its own is an
// *exitError, with a hint.
func (c *client) get(ctx context.Context, path string) ([]byte, error) {
	return c.ask(ctx, http.MethodGet, path, nil)
}

// ask sends a request, with a JSON body where there is one.
func (c *client) ask(ctx context.Context, method, path string, content []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(content))
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if method != http.MethodGet { // a POST without a body needs it too where there is no token
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, c.noAnswer(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return nil, c.noAnswer(err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return body, nil
	}
	var e wire.Error
	if json.Unmarshal(body, &e) != nil || e.Code == "" {
		return nil, fmt.Errorf("%s answered %s, which is not an answer of pool-managerd; is it the address of "+
			"another program?", c.addr, resp.Status)
	}
	return nil, refused(resp.StatusCode, &e)
}

func (c *client) noAnswer(err error) error {
	if errors.Is(err, context.Canceled) {
		return err // Ctrl-C
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return unreachable(c.addr, err)
}

// read gets and decodes a JSON answer; raw is the undecoded answer.
func read[T any](ctx context.Context, c *client, path string) (v T, raw []byte, err error) {
	if raw, err = c.get(ctx, path); err != nil {
		return v, nil, err
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, nil, fmt.Errorf("%s%s: the answer is not what this version of poolctl expects: %w", c.addr, path, err)
	}
	return v, raw, nil
}

// send posts a JSON body, or none for nil, and decodes the answer; raw is the undecoded answer.
func send[T any](ctx context.Context, c *client, path string, body any) (v T, raw []byte, err error) {
	var content []byte
	if body != nil {
		if content, err = wire.Encode(body); err != nil {
			return v, nil, fmt.Errorf("request: %w", err)
		}
	}
	if raw, err = c.ask(ctx, http.MethodPost, path, content); err != nil {
		return v, nil, err
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return v, nil, fmt.Errorf("%s%s: the answer is not what this version of poolctl expects: %w", c.addr, path, err)
	}
	return v, raw, nil
}

// poolPath returns the path of one pool; any id is escaped.
func poolPath(id, rest string) string { return "/v1/pools/" + url.PathEscape(id) + rest }

// withNearest adds the most similar pool id to a "not found" error.
func (c *client) withNearest(ctx context.Context, id string, err error) error {
	var e *exitError
	if !errors.As(err, &e) || e.code != exitNoPool {
		return err
	}
	e.hint = "poolctl list shows the pools of this host."
	list, _, lerr := read[wire.PoolList](ctx, c, "/v1/pools")
	if lerr != nil {
		return e
	}
	ids := make([]string, 0, len(list.Pools))
	for _, p := range list.Pools {
		ids = append(ids, p.ID)
	}
	if near := nearest(id, ids); near != "" {
		e.hint = fmt.Sprintf("Did you mean %s? ", near) + e.hint
	}
	return e
}
