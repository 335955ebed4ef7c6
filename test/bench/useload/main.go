// Command useload runs inside a test machine. It uses pools at a steady rate each, as clients do: a lease, a request to the engine that the
// lease names, and the lease back. With "direct" the requests go to where the engine was at the start, without a lease.
//
// Usage: useload RATE DURATION POOL[=direct]… It ends after DURATION or at SIGTERM, when the uses under way have ended, and prints one JSON
// object a line, for each pool.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// within bounds one use of a pool.
const within = 10 * time.Second

// used is what became of a pool's uses.
type used struct {
	Pool    string `json:"pool"`
	Uses    int    `json:"uses"`
	Failed  int    `json:"failed"`
	First   string `json:"first,omitempty"` // the first failure
	Engines int    `json:"engines"`         // how many endpoints leases have named

	mu        sync.Mutex
	direct    string // where its engine is, where no leases are taken
	endpoints map[string]bool
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "useload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("usage: useload RATE DURATION POOL[=direct] [POOL[=direct]]")
	}
	rate, err := strconv.Atoi(args[0])
	if err != nil || rate < 1 {
		return fmt.Errorf("the rate is %q", args[0])
	}
	duration, err := time.ParseDuration(args[1])
	if err != nil {
		return err
	}
	c := newClient()
	var pools []*used
	for _, arg := range args[2:] {
		name, how, _ := strings.Cut(arg, "=")
		u := &used{Pool: name, endpoints: map[string]bool{}}
		if how == "direct" {
			if u.direct, err = c.endpoint(name); err != nil {
				return err
			}
		}
		pools = append(pools, u)
	}
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(told, duration)
	defer cancel()
	var all sync.WaitGroup
	for _, u := range pools {
		all.Go(func() { u.atRate(ctx, c, rate) })
	}
	all.Wait()
	out := json.NewEncoder(os.Stdout)
	for _, u := range pools {
		u.Engines = len(u.endpoints)
		if err := out.Encode(u); err != nil {
			return err
		}
	}
	return nil
}

// atRate begins so many uses a second until ctx ends, and waits for all.
func (u *used) atRate(ctx context.Context, c client, rate int) {
	var uses sync.WaitGroup
	defer uses.Wait()
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			uses.Go(func() {
				err := c.use(u)
				u.mu.Lock()
				defer u.mu.Unlock()
				if u.Uses++; err != nil {
					if u.Failed++; u.First == "" {
						u.First = err.Error()
					}
				}
			})
		}
	}
}

type client struct{ api, engines *http.Client }

func newClient() client {
	var d net.Dialer
	return client{
		api: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", "/run/pool-managerd/api.sock")
		}}},
		engines: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	}
}

// use is one use of a pool.
func (c client) use(u *used) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if u.direct != "" {
		return send(ctx, c.engines, http.MethodPost, u.direct+"/v1/completions", nil)
	}
	var l struct {
		ID       string `json:"lease_id"`
		Endpoint string `json:"endpoint"`
	}
	leases := "http://localhost/v1/pools/" + u.Pool + "/leases"
	if err := send(ctx, c.api, http.MethodPost, leases, &l); err != nil {
		return err
	}
	u.mu.Lock()
	u.endpoints[l.Endpoint] = true
	u.mu.Unlock()
	if err := send(ctx, c.engines, http.MethodPost, l.Endpoint+"/v1/completions", nil); err != nil {
		return err
	}
	return send(ctx, c.api, http.MethodDelete, leases+"/"+l.ID, nil)
}

// endpoint is where a pool's engine serves now.
func (c client) endpoint(pool string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var p struct {
		Replicas []struct {
			Endpoint string `json:"endpoint"`
		} `json:"replicas"`
	}
	if err := send(ctx, c.api, http.MethodGet, "http://localhost/v1/pools/"+pool, &p); err != nil {
		return "", err
	}
	if len(p.Replicas) != 1 {
		return "", fmt.Errorf("%s has %d replicas", pool, len(p.Replicas))
	}
	return p.Replicas[0].Endpoint, nil
}

// send wants a status of success, and reads the answer into v where one is wanted.
func send(ctx context.Context, c *http.Client, method, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode/100 != 2:
		return fmt.Errorf("%s %s: %d %s", method, url, resp.StatusCode, body)
	case v != nil:
		return json.Unmarshal(body, v)
	}
	return nil
}
