// Command useload runs inside a test machine. It uses pools at a steady rate each, as clients do: a
// lease, a request to the engine that the lease names, and the lease back. With "direct" the
// requests go to where the engine was at the start, without a lease.
//
// Usage: useload RATE DURATION POOL[=direct]… It ends after DURATION or at SIGTERM, when the uses
// under way have ended, and prints one JSON object a line, for each pool.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
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

func main() { guest.Main("useload", run) }

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
	c := guest.NewClient()
	var pools []*used
	for _, arg := range args[2:] {
		name, how, _ := strings.Cut(arg, "=")
		u := &used{Pool: name, endpoints: map[string]bool{}}
		if how == "direct" {
			if u.direct, err = endpoint(c, name); err != nil {
				return err
			}
		}
		pools = append(pools, u)
	}
	ended, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ended, duration)
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
func (u *used) atRate(ctx context.Context, c *http.Client, rate int) {
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
				err := u.once(c)
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

// once is one use of a pool.
func (u *used) once(c *http.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	if u.direct != "" {
		_, err := guest.Send(ctx, c, http.MethodPost, u.direct+"/v1/completions")
		return err
	}
	var l struct {
		ID       string `json:"lease_id"`
		Endpoint string `json:"endpoint"`
	}
	leases := guest.API + "/v1/pools/" + u.Pool + "/leases"
	body, err := guest.Send(ctx, c, http.MethodPost, leases)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, &l); err != nil {
		return err
	}
	u.mu.Lock()
	u.endpoints[l.Endpoint] = true
	u.mu.Unlock()
	if _, err := guest.Send(ctx, c, http.MethodPost, l.Endpoint+"/v1/completions"); err != nil {
		return err
	}
	_, err = guest.Send(ctx, c, http.MethodDelete, leases+"/"+l.ID)
	return err
}

// endpoint is where a pool's engine serves now.
func endpoint(c *http.Client, pool string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	var p struct {
		Replicas []struct {
			Endpoint string `json:"endpoint"`
		} `json:"replicas"`
	}
	body, err := guest.Send(ctx, c, http.MethodGet, guest.API+"/v1/pools/"+pool)
	if err != nil {
		return "", err
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return "", err
	}
	if len(p.Replicas) != 1 {
		return "", fmt.Errorf("%s has %d replicas", pool, len(p.Replicas))
	}
	return p.Replicas[0].Endpoint, nil
}
