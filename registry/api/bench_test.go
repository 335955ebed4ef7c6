package api

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// benches is a Bench whose runs end when the test says so.
type benches struct {
	err error // of each request

	mu    sync.Mutex
	asked []string
	run   *wire.BenchRun
}

func (b *benches) Ask(pool, replica string, force bool, by string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return b.err
	}
	b.asked = append(b.asked, fmt.Sprintf("%s/%s %v %s", pool, replica, force, by))
	b.run = &wire.BenchRun{ID: "b1", State: "running", Step: 1, Steps: 4}
	return nil
}

func (b *benches) Shown(pool string, details bool) wire.Bench {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := wire.Bench{PoolID: pool, Replicas: []wire.BenchReplica{}}
	if b.run != nil {
		run := *b.run
		if run.Error != nil && !details {
			run.Error = nil
		}
		out.Run = &run
	}
	return out
}

func (b *benches) end(state string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.run = &wire.BenchRun{ID: "b1", State: state, Step: 4, Steps: 4}
}

// benched is a server with a pool of one replica.
func benched(t *testing.T) (*host, *benches) {
	h := serve(t, Settings{}, units{})
	b := &benches{}
	h.server.bench = b
	h.reg.Put(registry.Pool{ID: "a", State: registry.StateReady, Ready: true, Replicas: []registry.Replica{{ID: "r0"}}})
	return h, b
}

const benchPath = "http://localhost/v1/pools/a/bench"

func TestBench(t *testing.T) {
	t.Run("a_run_is_begun_and_shown", func(t *testing.T) {
		h, b := benched(t)
		if r := h.send("GET", benchPath, ""); r.status != 200 || r.json["run"] != nil {
			t.Errorf("before: %d %s", r.status, r.body)
		}
		if r := h.send("POST", benchPath, `{"replica_id":"r0","force":true}`); r.status != 202 {
			t.Errorf("%d %s", r.status, r.body)
		}
		if len(b.asked) != 1 || !strings.HasPrefix(b.asked[0], "a/r0 true uid:") {
			t.Errorf("asked for %q", b.asked)
		}
	})
	t.Run("a_caller_may_wait_for_its_end", func(t *testing.T) {
		h, b := benched(t)
		end := time.AfterFunc(200*time.Millisecond, func() { b.end("done") })
		defer end.Stop()
		r := h.send("POST", benchPath+"?wait=30s", "")
		var got wire.Bench
		if err := json.Unmarshal([]byte(r.body), &got); err != nil || r.status != 200 || got.Run == nil ||
			got.Run.State != "done" {
			t.Errorf("%d %s: %v", r.status, r.body, err)
		}
	})
	t.Run("an_unknown_replica", func(t *testing.T) {
		h, _ := benched(t)
		if r := h.send("POST", benchPath, `{"replica_id":"r7"}`); r.status != 400 {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	t.Run("a_refusal_is_a_conflict", func(t *testing.T) {
		h, b := benched(t)
		b.err = registry.Fail(registry.CodeBenchRefused, "leases are held", "Wait.")
		r := h.send("POST", benchPath, "")
		if r.status != 409 || r.json["code"] != "BENCH_REFUSED" || r.json["hint"] != "Wait." {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

func TestBenchWithAKey(t *testing.T) {
	h, b := benched(t)
	ask := func(body string) reply {
		return h.ask(h.overSocket(), "POST", benchPath, body, "Content-Type", "application/json",
			"Idempotency-Key", "key-0001")
	}
	for range 2 {
		if r := ask(`{}`); r.status != 202 {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	if len(b.asked) != 1 {
		t.Errorf("asked for %q", b.asked)
	}
	if r := ask(`{"force":true}`); r.status != 422 {
		t.Errorf("another body: %d %s", r.status, r.body)
	}
}

// TestLeaseIsWantedFirst: what is measured learns of a lease before the lease is granted, and of
// one that is refused too.
func TestLeaseIsWantedFirst(t *testing.T) {
	h, _ := benched(t)
	var wanted []int // leases at that time
	h.server.leases.Wanted = func(pool string) { wanted = append(wanted, len(h.book.Leases(pool))) }
	h.held(t, attempt{slots: 1})
	wanted = nil
	if r := h.send("POST", "http://localhost/v1/pools/a/leases", ""); r.status != 429 {
		t.Errorf("%d %s", r.status, r.body)
	}
	if len(wanted) != 1 || wanted[0] != 1 {
		t.Errorf("reported %v", wanted)
	}
}
