package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/test/bench/guest"
	"github.com/pool-managerd/pool-managerd/test/chaos/truth"
)

// The load of each pool, and how many read all events.
const (
	renewEvery = 3 * time.Second
	useTTL     = 30 * time.Second
	keepTTL    = time.Minute
	within     = 5 * time.Second // of each request
	readers    = 3
)

// lease is what the API answers.
type lease struct {
	ID       string `json:"lease_id"`
	Endpoint string `json:"endpoint"`
	Code     string `json:"code"` // of a refusal
}

// keep holds one lease of a pool all the time, and renews it.
func (w *witness) keep(ctx context.Context, pool string) {
	for n := 0; pause(ctx, renewEvery); n++ {
		ask := truth.Lease{Asked: truth.Granted, Pool: pool, Holder: fmt.Sprintf("keeper-%s-%d", pool, n), TTL: keepTTL}
		w.busy.RLock()
		l, did := w.request(ctx, ask)
		w.busy.RUnlock()
		ask.Asked, ask.ID = truth.Renewed, l.ID
		for held := did == truth.Granted; held && pause(ctx, renewEvery); {
			w.busy.RLock()
			_, did := w.request(ctx, ask)
			w.busy.RUnlock()
			held = did != truth.Lost
		}
	}
}

// useOften uses a pool again and again: a lease, a request to the engine, and the lease back.
func (w *witness) useOften(ctx context.Context, pool string) {
	for n := 0; pause(ctx, w.between); n++ {
		w.busy.RLock()
		w.uses.Add(1)
		if !w.use(ctx, truth.Lease{Pool: pool, Holder: fmt.Sprintf("user-%s-%d", pool, n), TTL: useTTL}) {
			w.failed.Add(1)
		}
		w.busy.RUnlock()
	}
}

func (w *witness) use(ctx context.Context, ask truth.Lease) bool {
	ask.Asked = truth.Granted
	l, did := w.request(ctx, ask)
	if did != truth.Granted {
		return false
	}
	working, cancel := context.WithTimeout(ctx, within)
	_, err := guest.Send(working, w.c, http.MethodPost, l.Endpoint+"/v1/completions?delay=50ms")
	cancel()
	ask.Asked, ask.ID = truth.Released, l.ID
	did = w.release(ctx, ask)
	return err == nil && did == truth.Released
}

// release releases a lease, and repeats it for some time where it could not be saved.
func (w *witness) release(ctx context.Context, ask truth.Lease) (did string) {
	for range 30 {
		if _, did = w.request(ctx, ask); did != truth.Refused || !pause(ctx, time.Second/2) {
			break
		}
	}
	return did
}

// request makes a request about a lease, and records what became of it.
func (w *witness) request(ctx context.Context, ask truth.Lease) (l lease, did string) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	method, url, body := http.MethodPost, guest.API+"/v1/pools/"+ask.Pool+"/leases", ""
	switch ask.Asked {
	case truth.Granted:
		body = fmt.Sprintf(`{"holder":%q,"ttl_ms":%d}`, ask.Holder, ask.TTL.Milliseconds())
	case truth.Renewed:
		method, url, body = http.MethodPut, url+"/"+ask.ID, fmt.Sprintf(`{"ttl_ms":%d}`, ask.TTL.Milliseconds())
	case truth.Released:
		method, url = http.MethodDelete, url+"/"+ask.ID
	}
	ask.Sent = w.now()
	status, l, err := w.send(ctx, method, url, body)
	switch {
	case err != nil:
		ask.Did = truth.Unknown
	case status/100 == 2:
		ask.Did = ask.Asked
	case status == http.StatusGone || status == http.StatusNotFound:
		ask.Did = truth.Lost
	default:
		ask.Did = truth.Refused
	}
	if l.ID != "" {
		ask.ID = l.ID
	}
	ask.Code = l.Code
	w.print(truth.Record{Lease: &ask})
	return l, ask.Did
}

// send makes one request; the error means that there was no whole answer.
func (w *witness) send(ctx context.Context, method, url, body string) (int, lease, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return 0, lease{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.c.Do(req)
	if err != nil {
		return 0, lease{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	var l lease
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &l)
	}
	return resp.StatusCode, l, err
}

// follow reads all events, and begins again after the last one where a stream ends.
func (w *witness) follow(ctx context.Context) {
	last := ""
	for pause(ctx, time.Second) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, guest.API+"/v1/events", nil)
		if err != nil {
			fmt.Fprintln(os.Stderr, "witness:", err)
			return
		}
		if last != "" {
			req.Header.Set("Last-Event-ID", last)
		}
		resp, err := w.c.Do(req)
		if err != nil {
			continue // the manager is down
		}
		for in := bufio.NewScanner(resp.Body); in.Scan(); {
			if id, ok := strings.CutPrefix(in.Text(), "id: "); ok {
				last = id
				w.events.Add(1)
			}
		}
		resp.Body.Close()
	}
}
