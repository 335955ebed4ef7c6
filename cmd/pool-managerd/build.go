package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	gpu "github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/api/history"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/handoff"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/bench"
	"github.com/pool-managerd/pool-managerd/units/cdi"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/listen"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/obtain"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/probe"
	"github.com/pool-managerd/pool-managerd/units/provision"
	"github.com/pool-managerd/pool-managerd/units/render"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// beatDefault is how often the main loop reports its progress where PID 1 asks for no watchdog.
const beatDefault = 10 * time.Second

// build makes the parts and connects them. Nothing runs yet.
func (d *daemon) build(sockets *systemd.Activation) error {
	settings := hostconfig.Default()
	if d.settings != nil {
		settings = *d.settings
	}
	store := d.store
	helper := gpu.New(gpu.Options{Socket: d.o.gpuSocket, Log: d.log})
	client := systemd.NewClient(systemd.Options{Pattern: pool.UnitPattern, Log: d.log})
	d.client = client
	var err error
	if d.fleet, err = newFleetView(fleet.Socket); err != nil {
		return err
	}
	counts := metrics.New(metrics.Options{Registry: d.registry, Version: version, Engines: engine.Kinds(),
		LogAnswers: logAnswers(), Reasons: countedReasons(), Preloads: supervise.PreloadOutcomes(),
		Benchmarks: bench.Outcomes(),
		Calls:      client.Calls, Log: d.log, Usage: engineUsage,
		Lost: client.Lost, InProgress: func() int { return d.super.InProgress() },
		OTelNames: settings.Metrics.OTelNames, Fleet: d.fleet.figures,
		Open: func() (requests, streams int) { return d.api.Open() }})
	d.obtainer = obtain.New(obtain.Options{PID1: fetches{client}, Program: d.o.fetch,
		Nameservers: obtain.HostNameservers, Output: filepath.Join(d.o.runtimeDir, "fetch"), Log: d.log,
		Peers: d.peersWith,
		Ended: func(o obtain.Outcome) { counts.Fetched(o.Reason, o.Bytes, o.PeerBytes, o.Took) },
		Refuse: func(program string) *registry.Failure {
			return d.inForce.Load().Policy.RefuseExecuted(program)
		}})
	d.configureFetches(settings.Host)
	d.pulls = obtain.NewPulls(d.obtainer, obtain.PullOptions{
		File: filepath.Join(d.o.stateDir, "pulls.json"), Log: d.log,
		Allowed: func(ref modelref.Ref) *registry.Failure {
			return d.inForce.Load().Policy.RefuseSource(ref.String())
		}})
	d.buildBench(counts)
	beat, err := beatEvery()
	if err != nil {
		return err
	}
	d.super = supervise.New(supervise.Options{
		PID1:   pid1{client},
		Stager: &provision.Stager{Store: store, Log: d.log, Verified: counts.Verified, Remote: d.obtainer},
		Preparer: &provision.Preparer{Store: store, Capture: client, Gate: d.o.gate, Log: d.log, Images: d.obtainer,
			CDI: cdi.Dirs(), Refuse: func(binary string) *registry.Failure {
				return d.inForce.Load().Policy.RefuseExecuted(binary)
			}},
		Prober:   probe.New(),
		Activity: engineActivity,
		Crowd:    listen.Crowd,
		Ports:    provision.NewPorts(settings.Host.PortLow, settings.Host.PortHigh),
		PortFree: provision.PortFree,
		Registry: d.registry,
		Observer: observer{counts, d.bench},
		Measure:  d.bench.Serves,
		Log:      d.log,
		Host: render.Host{GatePath: d.o.gate, MemoryBytes: ram.Total(), Forwarder: forwarder(),
			StagingRoot: stagingRoot(), StateBytes: stateBytes()},
		GPUs: helper,
		Memory: weigher{estimator: memory.New(store, d.log), peaks: store, ask: helper.Ask, available: memory.Available,
			log: d.log},
		Journal: journal{client},
		Leases:  d.leases,
		Keep:    d.keep, Intents: d.intents, Clock: d.clock,
		Histories: d.histories, SavedHistories: d.savedHistories,
		Status: d.setStatus, Beat: d.beat, BeatEvery: beat,
	})
	d.handoff = handoff.NewKeeper(handoff.New(filepath.Join(d.o.runtimeDir, "engines")), d.log)
	d.registry.OnPool(d.handoff.Changed)
	var scrape http.Handler
	if settings.Metrics.Enabled {
		scrape = counts.Handler()
	}
	d.history = history.New(d.registry)
	d.api, err = api.New(api.Options{
		Registry: d.registry, Backend: backend{d.super},
		Operator: operator{d.super, d.reloads, &d.inForce, &d.sources, d.registry,
			filepath.Join(d.o.runtimeDir, "engines")},
		Library: shelf{d.pulls, newCacheList(&d.inForce, filepath.Join(d.o.stateDir, "models"), d.registry)},
		Leases: &api.Leases{Book: d.leases.book, Now: bootTime, Rejected: counts.LeaseRejected,
			Wanted: d.bench.Wanted},
		Bench:   measurements{d.bench},
		Fleet:   d.fleet,
		History: d.history,
		Memory:  engineMemory,
		Metrics: scrape, Settings: apiSettings(settings), Version: version, Log: d.log, Epoch: d.eventFile.Epoch(),
		Peers:  newPeers(listeners(sockets), sockets.Others, d.log),
		Counts: api.Counts{Crowded: counts.APICrowded, Denied: counts.APIDenied, Artifact: counts.Shared},
	})
	if err != nil {
		return err
	}
	tuneCollector(d.api.Answered)
	return nil
}

// logAnswers are NVML's possible answers about lines of the kernel's log.
func logAnswers() []string {
	var out []string
	for _, a := range health.Answers() {
		out = append(out, string(a))
	}
	return out
}

// beatEvery returns a third of the watchdog's interval, so that one late beat is harmless.
func beatEvery() (time.Duration, error) {
	interval, err := systemd.WatchdogInterval()
	if err != nil {
		return 0, err
	}
	if interval == 0 {
		return beatDefault, nil
	}
	return interval / 3, nil
}

// beat is called by the main loop, so that the watchdog finds a loop that hangs.
func (d *daemon) beat() {
	if err := d.notify.Watchdog(); err != nil {
		d.log.Warn("could not notify PID 1 of the watchdog", "err", err)
	}
}

// journal reads the host's journal in a unit that PID 1 runs.
type journal struct{ *systemd.Client }

// Read implements supervise.Journal.
func (j journal) Read(ctx context.Context, q systemd.JournalQuery, limit int) ([]systemd.JournalEntry, error) {
	return j.ReadJournal(ctx, q, limit)
}

// Follow implements supervise.Journal.
func (j journal) Follow(ctx context.Context, q systemd.JournalQuery, deliver func(systemd.JournalEntry)) error {
	return j.FollowJournal(ctx, q, deliver)
}

// backend implements the API's reads with the supervisor.
type backend struct {
	super *supervise.Supervisor
}

// RenderUnit implements api.Backend.
func (b backend) RenderUnit(ctx context.Context, id string) (string, error) {
	text, err := b.super.RenderUnit(ctx, id)
	if errors.Is(err, supervise.ErrNoSuchPool) {
		return "", registry.Fail(registry.CodeConfigInvalid,
			fmt.Sprintf("pool %s has no valid pool file to render", id), "Run poolctl check.")
	}
	return text, err
}

// operator implements the API's changes with the supervisor.
type operator struct {
	super    *supervise.Supervisor
	reloads  chan<- reloadRequest
	inForce  *atomic.Pointer[config.Host]
	sources  *atomic.Pointer[sources]
	registry *registry.Registry
	handoff  string // the directory of hand-off files
}

// Drain implements api.Operator.
func (o operator) Drain(ctx context.Context, id string, deadline time.Duration, by string) error {
	return known(id, o.super.Drain(ctx, id, deadline, by))
}

// DrainUntilRestart implements api.Operator.
func (o operator) DrainUntilRestart(ctx context.Context, id string, deadline time.Duration, by string) error {
	return known(id, o.super.DrainUntilRestart(ctx, id, deadline, by))
}

// Resume implements api.Operator.
func (o operator) Resume(ctx context.Context, id, by string) error {
	return known(id, o.super.Resume(ctx, id, by))
}

// Restart implements api.Operator.
func (o operator) Restart(ctx context.Context, id, by string) error {
	return known(id, o.super.Restart(ctx, id, by))
}

// Reset implements api.Operator.
func (o operator) Reset(ctx context.Context, id, by string) error {
	return known(id, o.super.Reset(ctx, id, by))
}

// Reload implements api.Operator.
func (o operator) Reload(ctx context.Context, id string, ask api.ReloadRequest) error {
	if read := o.sources.Load(); read != nil && ask.Model == "" && !ask.Forget {
		if f := read.changed(id); f != nil {
			return f
		}
	}
	model, err := config.Reference(ask.Model, ask.Digest, o.inForce.Load().Provisioning)
	if err != nil {
		return err
	}
	return known(id, o.super.Reload(ctx, id, supervise.ReloadRequest{
		Model: model, Digest: ask.Digest, Deadline: ask.Deadline, Forget: ask.Forget, By: ask.By,
	}))
}

// known converts the supervisor's error for an unknown pool to the API's.
func known(id string, err error) error {
	if errors.Is(err, supervise.ErrNoSuchPool) {
		return registry.Fail(registry.CodePoolNotFound, fmt.Sprintf("pool %s not found: no pool file asks for it", id),
			"poolctl list shows the pools of this host.")
	}
	return err
}

// listeners returns all listening sockets, under any name.
func listeners(a *systemd.Activation) []net.Listener {
	var all []net.Listener
	for _, name := range slices.Sorted(maps.Keys(a.Listeners)) {
		all = append(all, a.Listeners[name]...)
	}
	return all
}

// stagingRoot returns where PID 1 builds the file systems of units. This program's own was built
// there.
func stagingRoot() string {
	for _, path := range render.StagingRoots() {
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return path
		}
	}
	return ""
}

// forwarder returns the path of systemd's program that forwards connections; "": the host has none.
// It is a part of systemd, at a path that older distributions have below /lib.
func forwarder() string {
	for _, path := range []string{"/usr/lib/systemd/systemd-socket-proxyd", "/lib/systemd/systemd-socket-proxyd"} {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
