// Command bareprobe runs inside a test machine. It asks every URL for its health each five seconds,
// on the same moments as the manager does, does nothing with the answers, and after a minute prints
// the processor time that it used: what probing alone costs on this machine, beside which the
// manager's own time can be read.
//
// Usage: bareprobe [-raw] URL... With -raw it writes and reads kept connections itself, instead of
// using net/http. It prints one JSON object; times are microseconds.
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
	"os"
	"strings"
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
	how := ask
	if len(urls) > 0 && urls[0] == "-raw" {
		how, urls = new(kept).ask, urls[1:]
	}
	if len(urls) == 0 {
		return errors.New("no URL is given (usage: bareprobe [-raw] URL, and more)")
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	var all sync.WaitGroup
	for i, url := range urls {
		all.Go(func() {
			if err := probe(ctx, how, url, i); err != nil {
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

// grid is the distance of the moments on which the manager's probes fall at this interval: those of
// many engines share a wake-up.
const grid = time.Second

// probe asks for one URL until ctx ends, the n-th on the n-th point of the grid.
func probe(ctx context.Context, how func(context.Context, string) error, url string, n int) error {
	points := int(interval / grid)
	for ctx.Err() == nil {
		now := time.Now()
		next := now.Truncate(interval).Add(time.Duration(n%points) * grid)
		if !next.After(now) {
			next = next.Add(interval)
		}
		wait(ctx, next.Sub(now))
		if err := how(ctx, url); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

// client is the library's.
var client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}

// kept asks over connections of its own.
type kept struct{ conns sync.Map }

func (k *kept) ask(_ context.Context, url string) error {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	c, open := k.conns.Load(host)
	if !open {
		dialed, err := net.Dial("tcp", host)
		if err != nil {
			return err
		}
		k.conns.Store(host, dialed)
		c = dialed
	}
	if _, err := io.WriteString(c.(net.Conn), "GET /"+path+" HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return err
	}
	var answer [512]byte
	n, err := c.(net.Conn).Read(answer[:])
	if err == nil && !bytes.Contains(answer[:n], []byte(" 200 ")) {
		err = fmt.Errorf("%s: %q", url, answer[:n])
	}
	return err
}

func ask(ctx context.Context, url string) error {
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
