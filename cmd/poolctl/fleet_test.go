package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
	"github.com/pool-managerd/pool-managerd/registry/fleet/serve"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

// machine is the machine-id of a host by its number.
func machine(n int) string { return fmt.Sprintf("%032x", n) }

// fleetKeys are three hosts with pools, one of which is down, and a clone of the second.
func fleetKeys() []view.KV {
	keys := record.Below("/pool-managerd")
	var all []view.KV
	host := func(n int, name string, gpus ...string) record.Host {
		h := record.Host{Schema: 1, MachineID: machine(n), BootID: "b" + name, Name: name, Version: "0.1.0", CPUs: 64,
			Address: "https://" + name + ".example.org:9200", RAMBytes: 512 << 30, TTL: 10, Driver: "580.65.06",
			Started: "2026-11-27T12:00:00Z"}
		for i, g := range gpus {
			h.GPUs = append(h.GPUs, record.GPU{Index: i, Name: g, VRAMTotal: 80 << 30, ComputeCapability: "9.0"})
		}
		return h
	}
	put := func(h record.Host, pools ...record.Pool) {
		all = append(all, view.KV{Key: keys.Host(h.MachineID), Value: record.Encode(h)})
		for _, p := range pools {
			p.Schema = 1
			all = append(all, view.KV{Key: keys.Pool(h.MachineID, p.ID), Value: record.Encode(p)})
		}
	}
	llama := record.Pool{ID: "llama3", Engine: "llamacpp", EngineVersion: "b6527", ModelID: "hf:acme/llama3:Q8_0",
		State: "ready", Live: true, Ready: true, Wanted: true, SlotsTotal: 8, SlotsFree: 3, ActiveLeases: 5,
		DeviceMask: []string{"GPU-1a2b"}}
	busy := llama
	busy.SlotsFree, busy.Draining = 0, true
	down := llama
	down.State, down.Ready, down.SlotsFree, down.SlotsTotal, down.RestartCount = "backoff", false, 0, 0, 3
	down.LastError, down.Hint = "CUDA_OOM: out of memory while loading", "Lower ctx or slots."
	two := record.Pool{ID: "qwen", Engine: "vllm", ModelID: "hf:acme/qwen", State: "ready", Ready: true,
		SlotsTotal: 512, SlotsFree: 510, Replicas: []record.Replica{{ID: "r0", Ready: true}, {ID: "r1"}}}
	cache := func(n int, models ...record.Model) {
		r := record.Models{Schema: 1, MachineID: machine(n), Models: models}
		all = append(all, view.KV{Key: keys.Models(machine(n)), Value: record.Encode(r)})
	}
	weights := record.Model{Model: "hf:acme/llama3", Bytes: 8_540_000_000, Files: 1, Whole: true,
		Digests: []string{"sha256:" + strings.Repeat("0a", 32)}}
	sharded := record.Model{Model: "hf:acme/qwen", Bytes: 61_000_000_000, Files: 9, Digests: []string{
		"sha256:" + strings.Repeat("0b", 32), "sha256:" + strings.Repeat("0c", 32)}}
	put(host(1, "gpu1", "NVIDIA H100", "NVIDIA H100"), llama, two)
	put(host(2, "gpu2", "NVIDIA L4"), busy)
	put(host(3, "cpu1"), down)
	clone := host(2, "gpu9")
	clone.BootID = "bclone"
	all = append(all, view.KV{Key: keys.Conflict(machine(2), "bclone"), Value: record.Encode(clone)})
	cache(1, weights, sharded)
	cache(2, weights)
	return all
}

// fleetSet is the fleet as it is read.
func fleetSet() *view.Set {
	set := view.New("/pool-managerd")
	for _, b := range []view.Batch{{Kind: view.Begin}, {Kind: view.Page, KVs: fleetKeys()},
		{Kind: view.End, Revision: 7}} {
		set.Apply(b)
	}
	return set
}

// fleetHosts is the fleet as the manager has it.
type fleetHosts struct{ err error }

func (f *fleetHosts) Pools(context.Context) (wire.FleetPools, error) {
	return fleetSet().Pools(), f.err
}

func (f *fleetHosts) Models(context.Context) (wire.FleetModels, error) {
	return fleetSet().Models(), f.err
}

// TestGoldenFleet shows the fleet as a person sees it, by the manager.
func TestGoldenFleet(t *testing.T) {
	h := newHost(t)
	for _, c := range []struct{ name, line string }{
		{"fleet-list", "fleet list"},
		{"fleet-list-wide", "fleet list -o wide"},
		{"fleet-list-name", "fleet list -o name"},
		{"fleet-list-json", "fleet list --node cpu1 -o json"},
		{"fleet-list-yaml", "fleet list --node cpu1 -o yaml"},
		{"fleet-list-ready", "fleet list --ready --model hf:acme/*"},
		{"fleet-list-state", "fleet list --state backoff"},
		{"fleet-list-node", "fleet list --node gpu* llama3"},
		{"fleet-list-none", "fleet list --node cpu1 --ready"},
		{"fleet-list-no-node", "fleet list --node gpu3"},
		{"fleet-list-no-pool", "fleet list lama3"},
		{"fleet-status", "fleet status"},
		{"fleet-status-wide", "fleet status -o wide"},
		{"fleet-status-name", "fleet status -o name"},
		{"fleet-status-node", "fleet status " + machine(1)},
		{"fleet-models", "fleet models"},
		{"fleet-models-wide", "fleet models -o wide"},
		{"fleet-models-name", "fleet models -o name"},
		{"fleet-models-json", "fleet models --node gpu2 -o json"},
		{"fleet-models-glob", "fleet models *llama*"},
		{"fleet-models-digest", "fleet models sha256:" + strings.Repeat("0c", 32)},
		{"fleet-models-none", "fleet models hf:acme/lama3"},
		{"fleet-template", "fleet list -o jsonpath={.pools[?(@.ready==true)].address}"},
	} {
		t.Run(c.name, func(t *testing.T) { h.golden(t, c.name, c.line) })
	}
	h.fleet.err = registry.Fail(registry.CodeFleetNotConfigured,
		"this host reads no fleet: config.toml has no [etcd] endpoints",
		"Name the members of an etcd in [etcd] endpoints, then systemctl reload pool-managerd; fleet.md.")
	t.Run("fleet-not-configured", func(t *testing.T) { h.golden(t, "fleet-not-configured", "fleet list") })
	t.Run("events_over_tcp", func(t *testing.T) {
		if r := poolctl(t.Context(), "fleet", "events", "--url", h.url); r.code != exitUsage ||
			!strings.Contains(r.errOut, "fleet list --watch") {
			t.Errorf("%d %s", r.code, r.errOut)
		}
	})
}

// keySource is a reader of etcd that a test plays.
type keySource struct{ batches chan view.Batch }

func (s *keySource) Watch(ctx context.Context, deliver func(view.Batch)) {
	for {
		select {
		case <-ctx.Done():
			return
		case b := <-s.batches:
			deliver(b)
		}
	}
}

func (s *keySource) whole(kvs []view.KV) {
	for _, b := range []view.Batch{{Kind: view.Begin}, {Kind: view.Page, KVs: kvs}, {Kind: view.End, Revision: 7}} {
		s.batches <- b
	}
}

// fleetSite is a host with pool-fleet alone.
type fleetSite struct {
	*app
	source *keySource
	end    func()
}

func newFleetSite(t *testing.T) *fleetSite {
	t.Helper()
	root, err := os.MkdirTemp("", "fleet") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	s := &fleetSite{app: &app{now: func() time.Time { return clock }, every: 5 * time.Millisecond, root: root}}
	t.Cleanup(func() { os.RemoveAll(root) })
	s.serve(t)
	t.Cleanup(func() { s.end() })
	return s
}

// serve runs pool-fleet's server until end is called.
func (s *fleetSite) serve(t *testing.T) {
	path := filepath.Join(s.root, fleet.Socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s.source = &keySource{make(chan view.Batch)}
	ctx, cancel := context.WithCancel(context.Background())
	server := serve.New(serve.Options{Source: s.source, Prefix: "/pool-managerd", TTL: time.Minute,
		Hint: func(error) string { return "Is etcd running?" }, Log: slog.New(slog.DiscardHandler)})
	var running sync.WaitGroup
	running.Go(func() { server.Serve(ctx, l) })
	s.end = func() { cancel(); running.Wait() }
}

// TestFleetOfThisHost: without an address, pool-fleet of this host is asked, and the manager is not
// needed; what is wrong with it is reported as such.
func TestFleetOfThisHost(t *testing.T) {
	s := newFleetSite(t)
	go s.source.whole(fleetKeys())
	if r, _ := typedOn(t, s.app, "fleet", "list", "-o", "name"); r.code != exitOK ||
		r.out != "cpu1/llama3\ngpu1/llama3\ngpu1/qwen\ngpu2/llama3\n" {
		t.Errorf("%d %s%s", r.code, r.out, r.errOut)
	}
	r, _ := typedOn(t, s.app, "__complete", "fleet", "list", "--node", "gp")
	if !strings.HasPrefix(r.out, "gpu1\ngpu2\n") {
		t.Errorf("offered %q", r.out)
	}
	s.end()
	s.end = func() {}
	for _, line := range []string{"fleet list", "fleet status", "fleet events"} {
		r, _ := typedOn(t, s.app, strings.Fields(line)...)
		if r.code != exitUnreachable || !strings.Contains(r.errOut, "this host reads no fleet") ||
			!strings.Contains(r.errOut, "[etcd] endpoints") {
			t.Errorf("%s: %d %s", line, r.code, r.errOut)
		}
	}
}

// TestFleetWithoutEtcd: why etcd cannot be read is shown, with what to do.
func TestFleetWithoutEtcd(t *testing.T) {
	s := newFleetSite(t)
	go func() { s.source.batches <- view.Batch{Kind: view.Lost, Err: errors.New("connection refused")} }()
	r, _ := typedOn(t, s.app, "fleet", "list")
	if r.code != exitFailed ||
		!strings.Contains(r.errOut, "FLEET_UNAVAILABLE: etcd cannot be read: connection refused") ||
		!strings.Contains(r.errOut, "Is etcd running?") {
		t.Errorf("%d %s", r.code, r.errOut)
	}
}

// TestFleetOfAHungProgram: one that takes connections and answers nothing is given up in time.
func TestFleetOfAHungProgram(t *testing.T) {
	a := hungHost(t)
	path := filepath.Join(a.root, fleet.Socket)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, line := range []string{"fleet list", "fleet status", "fleet events"} {
		r, took := typedOn(t, a, append(strings.Fields(line), "--timeout", "100ms")...)
		if r.code != exitUnreachable || !strings.Contains(r.errOut, "did not answer within 100ms") ||
			took > 5*time.Second {
			t.Errorf("%s: after %s: %d %s", line, took, r.code, r.errOut)
		}
	}
}

// TestFleetEvents: what changes is printed, over a loss of etcd and a restart of pool-fleet, after
// which what went meanwhile is printed, too.
func TestFleetEvents(t *testing.T) {
	keys := record.Below("/pool-managerd")
	changed := func(kv ...view.KV) view.Batch { return view.Batch{Kind: view.Changed, Revision: 8, KVs: kv} }
	llama := keys.Pool(machine(1), "llama3")
	for _, c := range []struct{ name, args string }{
		{"fleet-events", ""},
		{"fleet-events-initial", "--initial"},
		{"fleet-events-json", "-o json"},
		{"fleet-events-node", "--node gpu2 --initial"},
		{"fleet-events-pool", "qwen --initial"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newFleetSite(t)
			line := strings.TrimSpace("fleet events " + c.args)
			w := watchOn(t, s.app, strings.Fields(line)...)
			s.source.whole(fleetKeys())
			s.source.batches <- changed(view.KV{Key: llama, Value: record.Encode(record.Pool{Schema: 1, ID: "llama3",
				State: "draining", Draining: true, SlotsTotal: 8})})
			s.source.batches <- view.Batch{Kind: view.Lost, Err: errors.New("no leader")}
			s.source.whole(fleetKeys()[:3]) // one host is left
			s.source.batches <- changed(view.KV{Key: llama})
			s.source.batches <- view.Batch{Kind: view.Lost, Err: errors.New("the members are stopped")}
			w.until("are stopped", 1)
			s.end()
			s.serve(t)
			s.source.whole(fleetKeys()[:2])
			s.source.batches <- changed(view.KV{Key: keys.Host(machine(4)), Value: record.Encode(record.Host{Schema: 1,
				MachineID: machine(4), BootID: "b4", Name: "gpu2", Address: "https://last"})})
			if c.args != "qwen --initial" {
				w.until("https://last", 1)
			} else {
				w.until("pool-gone", 1)
			}
			got := fmt.Sprintf("$ poolctl %s\n%s", line, w.end())
			golden.File(t, filepath.Join("testdata", c.name+".golden"), got, *update)
		})
	}
}

// TestFleetEventsOfAnotherProgram: a manager's socket has no such stream.
func TestFleetEventsOfAnotherProgram(t *testing.T) {
	h := newHost(t)
	if r := h.run("fleet", "events"); r.code != exitFailed || !strings.Contains(r.errOut, "NOT_FOUND") {
		t.Errorf("%d %s", r.code, r.errOut)
	}
}
