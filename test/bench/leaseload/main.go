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
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
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

func main() { guest.Main("leaseload", run) }

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
	client := guest.NewClient()
	path := guest.API + "/v1/pools/" + args[0]
	var pairs, asks []time.Duration
	for range n {
		began := time.Now()
		if err := pair(ctx, client, path+"/leases"); err != nil {
			return err
		}
		paired := time.Now()
		if _, err := guest.Send(ctx, client, http.MethodGet, path+"/health"); err != nil {
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

// pair takes a lease and gives it back.
func pair(ctx context.Context, client *http.Client, leases string) error {
	body, err := guest.Send(ctx, client, http.MethodPost, leases)
	if err != nil {
		return err
	}
	var l struct {
		ID string `json:"lease_id"`
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return err
	}
	_, err = guest.Send(ctx, client, http.MethodDelete, leases+"/"+l.ID)
	return err
}
