// Command bareprobe runs inside a test machine. It asks every URL for its health each five seconds over connections that stay
// open, does nothing with the answers, and after a minute prints the processor time that it used: what probing alone
// costs on this machine, beside which the manager's own time can be read.
//
// Usage: bareprobe URL... It prints one JSON object; times are microseconds.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
)

const (
	interval = 5 * time.Second
	minute   = time.Minute
)

func main() { guest.Main("bareprobe", run) }

func run(urls []string) error {
	if len(urls) == 0 {
		return errors.New("no URL is given (usage: bareprobe URL, and more)")
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var all sync.WaitGroup
	for i, url := range urls {
		all.Go(func() {
			// Spread over the interval, as the manager does.
			if err := probe(ctx, client, url, interval*time.Duration(i)/time.Duration(len(urls))); err != nil {
				cancel(err)
			}
		})
	}
	wait(ctx, 2*interval) // every connection is open
	before := used()
	wait(ctx, minute)
	spent := used() - before
	cancel(nil)
	all.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]int64{"cpu_usec": spent.Microseconds()})
}

// wait returns after d, or when ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// probe asks for one URL until ctx ends.
func probe(ctx context.Context, client *http.Client, url string, phase time.Duration) error {
	wait(ctx, phase)
	for ctx.Err() == nil {
		if err := ask(ctx, client, url); err != nil && ctx.Err() == nil {
			return err
		}
		wait(ctx, interval)
	}
	return nil
}

func ask(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

// used is this process's processor time.
func used() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
