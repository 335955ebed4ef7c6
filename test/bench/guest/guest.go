// Package guest is what the programs share that benchmarks run inside a test machine: how they
// begin and end, and how they ask the manager.
//
// It owns the way to the API's socket and what an answer means to a benchmark. It must not know
// what any of them measures.
package guest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// API is where the manager's socket appears as a host, for URLs and for NewClient.
const API = "http://api"

// Socket is the manager's, of its package.
const Socket = "/run/pool-managerd/api.sock"

// look is the pause between two looks at the API: short against what is measured, long enough to
// leave the processor alone.
const look = 300 * time.Microsecond

// Main runs a program of this name with its arguments, and ends it with status 1 where it fails.
func Main(name string, run func(args []string) error) {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// NewClient returns a client whose requests to API go to the manager's socket and all others to
// where they say. It keeps its connections, up to 64 of each host.
func NewClient() *http.Client {
	var d net.Dialer
	return &http.Client{Transport: &http.Transport{
		MaxIdleConnsPerHost: 64,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			if address == "api:80" {
				network, address = "unix", Socket
			}
			return d.DialContext(ctx, network, address)
		},
	}}
}

// Send wants a status of success, and returns the body of the answer.
func Send(ctx context.Context, c *http.Client, method, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %d %s", method, url, resp.StatusCode, body)
	}
	return body, err
}

// Ready asks whether a pool is.
func Ready(ctx context.Context, c *http.Client, pool string) (bool, error) {
	body, err := Send(ctx, c, http.MethodGet, API+"/v1/pools/"+pool+"/health")
	if err != nil {
		return false, err
	}
	var health struct {
		Ready bool `json:"ready"`
	}
	err = json.Unmarshal(body, &health)
	return health.Ready, err
}

// Falls asks until a pool is no longer ready, and returns when that was.
func Falls(ctx context.Context, c *http.Client, pool string) (time.Time, error) {
	for {
		is, err := Ready(ctx, c, pool)
		if err != nil || !is {
			return time.Now(), err
		}
		time.Sleep(look)
	}
}
