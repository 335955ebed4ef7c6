package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

// newClient uses the URL if one is given, else the sockets: that of administrators first, where
// there is one and this user may, since no other users wait in its queue. Each request has its own
// connection: a daemon that restarts need not wait for an idle connection of a watch.
func newClient(o options) (*client.Client, error) {
	ask := client.Options{OneShot: true, Timeout: cmp.Or(o.timeout, requestTimeout),
		ReadTimeout: cmp.Or(o.timeout, readTimeout)}
	if o.url == "" {
		if o.tokenFile != "" {
			return nil, usage("--token-file goes with --host http://… and --url; the unix socket needs no token")
		}
		if o.admin != "" {
			ask.Sockets = append(ask.Sockets, o.admin)
		}
		ask.Sockets = append(ask.Sockets, o.socket)
		return client.New(ask)
	}
	u, err := url.Parse(o.url)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, usage("%q is not of the form http://HOST:PORT", o.url)
	}
	ask.URL = o.url
	if o.tokenFile != "" {
		body, err := os.ReadFile(o.tokenFile)
		if err != nil {
			return nil, &failed{fmt.Errorf("the token file: %w", err)}
		}
		ask.Token = strings.TrimSpace(string(body))
	}
	return client.New(ask)
}

// requestTimeout bounds a request that changes something, and readTimeout any other: a manager that
// hangs is no reason to wait, since what it would say is known elsewhere.
const (
	requestTimeout = client.Timeout
	readTimeout    = 3 * time.Second
)

// got returns what an answer has, and the answer as it was sent. An error with an exit status of
// its own is an *exitError, with a hint.
func got[T any](a client.Answer[T], err error) (v T, raw []byte, explained error) {
	if err != nil {
		return v, nil, explain(err)
	}
	return a.Value, a.Raw, nil
}

// explain converts an error of the client's to one for people.
func explain(err error) error {
	var refusal *client.Failure
	var silent *client.Unreachable
	var other *client.Unexpected
	switch {
	case errors.As(err, &refusal):
		return refused(refusal.Status, &refusal.Answer)
	case errors.As(err, &silent):
		return unreachable(silent)
	}
	if errors.As(err, &other) && other.Err != nil {
		return fmt.Errorf("%s: the answer is not what this version of poolctl expects: %w", other.Addr, other.Err)
	}
	return err
}

// poolsOf and devicesOf ask for lists.
func poolsOf(ctx context.Context, c *client.Client) (wire.PoolList, error) {
	list, _, err := got(c.GetPools(ctx, client.GetPoolsParams{}))
	return list, err
}

func devicesOf(ctx context.Context, c *client.Client) (wire.DeviceList, error) {
	list, _, err := got(c.GetDevices(ctx, client.GetDevicesParams{}))
	return list, err
}

// withNearest adds the most similar pool id to a "not found" error.
func withNearest(ctx context.Context, c *client.Client, id string, err error) error {
	var e *exitError
	if !errors.As(err, &e) || e.code != exitNoPool {
		return err
	}
	e.hint = "poolctl list shows the pools of this host."
	list, lerr := poolsOf(ctx, c)
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
