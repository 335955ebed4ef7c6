package main

import (
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
)

// TestFleetFigures: the figures of /metrics are those that pool-fleet reports; of one that is down,
// it is known where this host should be published.
func TestFleetFigures(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"publishing":[{"to":"etcd","published":true,"since_ms":1500,"failures":2,"writes":7,`+
			`"last_success_ms":2500,"last_error":""},{"to":"orchestrator","conflict":true}],`+
			`"reading":{"state":"lost","hosts":3,"pools":9}}`)
	})}
	go func() { _ = server.Serve(l) }()
	defer server.Close()
	f, err := newFleetView(socket)
	if err != nil {
		t.Fatal(err)
	}
	if _, wanted := f.figures(); wanted {
		t.Error("a host that is published nowhere has figures")
	}
	var s hostconfig.Fleet
	s.Orchestrator.URL = "http://o"
	s.Etcd.Endpoints = []string{"http://e:2379"}
	places := placesOf(s)
	f.places.Store(&places)
	want := metrics.Fleet{Up: true, Places: []metrics.Place{
		{To: "etcd", Published: true, Since: 1.5, Last: 2.5, Failures: 2, Writes: 7},
		{To: "orchestrator", Conflict: true}}, Read: &metrics.Read{Hosts: 3, Pools: 9}}
	got, wanted := f.figures()
	if diff := cmp.Diff(want, got); diff != "" || !wanted {
		t.Errorf("%t (-want +got)\n%s", wanted, diff)
	}
	server.Close()
	got, wanted = f.figures()
	want = metrics.Fleet{Places: []metrics.Place{{To: "etcd"}, {To: "orchestrator"}}}
	if diff := cmp.Diff(want, got); diff != "" || !wanted {
		t.Errorf("%t (-want +got)\n%s", wanted, diff)
	}
}
