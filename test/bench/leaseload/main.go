// Command leaseload runs inside a test machine. Over one connection to the manager's socket it takes a lease of a pool and gives it back, and
// asks for the pool's health as often, in turn, so that whatever else the processor does meets both.
//
// Usage: leaseload POOL PAIRS. It prints one JSON object; times are microseconds.
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
	"slices"
	"strconv"
	"time"
)

// patience bounds the whole run.
const patience = 2 * time.Minute

// result is what is printed. A pair is one acquire with its release.
type result struct {
	PairMedian  float64 `json:"pair_median_usec"`
	PairP99     float64 `json:"pair_p99_usec"`
	PairsPerSec float64 `json:"pairs_per_sec"`
	AskMedian   float64 `json:"ask_median_usec"`
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "leaseload:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: leaseload POOL PAIRS")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil || n < 1 {
		return fmt.Errorf("%q pairs", args[1])
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c := client{ctx, &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", "/run/pool-managerd/api.sock")
	}}}}
	path := "/v1/pools/" + args[0]
	var pairs, asks []time.Duration
	for range n {
		began := time.Now()
		if err := c.pair(path + "/leases"); err != nil {
			return err
		}
		paired := time.Now()
		if _, err := c.send(http.MethodGet, path+"/health", http.StatusOK); err != nil {
			return err
		}
		pairs, asks = append(pairs, paired.Sub(began)), append(asks, time.Since(paired))
	}
	var all time.Duration
	for _, p := range pairs {
		all += p
	}
	slices.Sort(pairs)
	slices.Sort(asks)
	usec := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	return json.NewEncoder(os.Stdout).Encode(result{
		PairMedian: usec(pairs[n/2]), PairP99: usec(pairs[n*99/100]), PairsPerSec: float64(n) / all.Seconds(), AskMedian: usec(asks[n/2]),
	})
}

type client struct {
	ctx  context.Context
	http *http.Client
}

// pair takes a lease and gives it back.
func (c client) pair(path string) error {
	body, err := c.send(http.MethodPost, path, http.StatusCreated)
	if err != nil {
		return err
	}
	var l struct {
		ID string `json:"lease_id"`
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return err
	}
	_, err = c.send(http.MethodDelete, path+"/"+l.ID, http.StatusNoContent)
	return err
}

func (c client) send(method, path string, want int) ([]byte, error) {
	req, err := http.NewRequestWithContext(c.ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != want {
		err = fmt.Errorf("%s %s: %d %s", method, path, resp.StatusCode, body)
	}
	return body, err
}
