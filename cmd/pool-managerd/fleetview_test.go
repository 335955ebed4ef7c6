package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestFleetView: the manager has what pool-fleet answers, asks it once for many callers, and
// reports why there is no fleet.
func TestFleetView(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	var asked atomic.Int64
	answer := func(w http.ResponseWriter) { fmt.Fprint(w, `{"pools":[{"id":"x"}]}`) }
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path != "/v1/fleet/pools" {
			t.Errorf("asked for %s", r.URL)
		}
		answer(w)
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	f, err := newFleetView(socket)
	if err != nil {
		t.Fatal(err)
	}
	failure := func(want registry.Code, text string) {
		t.Helper()
		_, err := f.Pools(t.Context())
		var got *registry.Failure
		if !errors.As(err, &got) || got.Code != want || !strings.Contains(got.Message, text) || got.Hint == "" {
			t.Errorf("%v, want %s: %s", err, want, text)
		}
	}
	for range 3 {
		if list, err := f.Pools(t.Context()); err != nil || len(list.Pools) != 1 {
			t.Fatalf("%+v, %v", list, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("pool-fleet was asked %d times", n)
	}
	f.pools.taken = f.pools.taken.Add(-fleetAge)
	answer = func(w http.ResponseWriter) {
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `{"code":"FLEET_UNAVAILABLE","message":"etcd cannot be read: no leader","hint":"look"}`)
	}
	failure(registry.CodeFleetUnavailable, "no leader")
	answer = func(w http.ResponseWriter) { time.Sleep(50 * time.Millisecond); fmt.Fprint(w, "<html>") }
	f.configured.Store(true)
	failure(registry.CodeFleetUnavailable, "pool-fleet")
	server.Close()
	failure(registry.CodeFleetUnavailable, "pool-fleet")
	f.configured.Store(false)
	failure(registry.CodeFleetNotConfigured, "[etcd] endpoints")
}
