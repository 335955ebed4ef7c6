package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/api/history"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/registry/eventfile"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/handoff"
	"github.com/pool-managerd/pool-managerd/registry/lease/leaselog"
	"github.com/pool-managerd/pool-managerd/registry/poollog"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/bench"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/obtain"
	"github.com/pool-managerd/pool-managerd/units/perf/baselines"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/provision"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// daemon is everything that lives as long as the process.
type daemon struct {
	o              options
	level          *slog.LevelVar
	form           systemd.LogForm
	log            *slog.Logger
	lines          *poollog.Handler // of log
	notify         *systemd.Notifier
	registry       *registry.Registry
	super          *supervise.Supervisor
	client         *systemd.Client
	api            *api.Server
	store          *provision.Store
	keep           *keep.Store
	intents        map[string]keep.Intent // as they were when the daemon started
	clock          keep.Clock
	histories      *keep.Histories
	savedHistories map[string]json.RawMessage

	measured  *baselines.Store
	bench     *bench.Bench
	obtainer  *obtain.Obtainer
	history   *history.Book
	pulls     *obtain.Pulls
	inForce   atomic.Pointer[config.Host] // of settings, for requests of the API
	sources   atomic.Pointer[sources]     // the same
	handoff   *handoff.Keeper
	leases    leases
	leaseFile *leaselog.File
	eventFile *eventfile.File
	settings  *hostconfig.Settings // the newest good config.toml; nil: none yet
	publish   func(f hostconfig.Fleet, reload bool)
	fleet     *fleetView
	reloads   chan reloadRequest // by the API

	formerMu sync.Mutex
	former   hostconfig.Former // what there was of the configuration when it was last read
	recorded bool              // former is in its file

	mu            sync.Mutex // guards what the loop, reloads and the stores share
	status        string
	replacedFiles []replacedFile
}

// serve runs the daemon until ctx ends. Engines go on after it.
func serve(ctx context.Context, o options) error {
	d := &daemon{o: o, level: new(slog.LevelVar), notify: systemd.NewNotifier(), registry: registry.New(),
		reloads: make(chan reloadRequest)}
	d.lines = poollog.New(systemd.NewLogHandler(systemd.LogOptions{Identifier: "pool-managerd", Level: d.level,
		Form: &d.form}), d.registry)
	d.log = slog.New(d.lines)
	d.registry.Observe(registry.LogEvents(d.log))
	sockets, err := systemd.TakeActivation()
	if err != nil {
		return fmt.Errorf("%w; start the daemon with systemctl start pool-managerd.socket pool-managerd.service", err)
	}
	defer sockets.Close()
	if err := d.openStores(); err != nil {
		return err
	}
	defer d.store.Close()
	defer d.keep.Close()
	defer d.leaseFile.Close()
	defer d.measured.Close()
	d.openEvents()
	defer d.saveEvents()
	d.openFormer()
	first := d.load(false)
	if err := d.build(sockets); err != nil {
		return err
	}
	return d.run(ctx, sockets, first)
}

func (d *daemon) run(ctx context.Context, sockets *systemd.Activation, first supervise.Desired) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	var all sync.WaitGroup
	defer all.Wait()
	// The supervisor outlives the server, which answers requests until the end.
	superCtx, stopSuper := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSuper()
	all.Go(func() {
		if err := d.super.Run(superCtx, first); err != nil && superCtx.Err() == nil {
			cancel(fmt.Errorf("the main loop ended: %w", err))
		}
	})
	all.Go(func() { d.lines.Run(superCtx) })
	all.Go(func() { d.obtainer.Run(superCtx) })
	d.pulls.Prefetch(prefetched(first))
	all.Go(func() { d.pulls.Run(superCtx) })
	// Leases end after the server, so that the last answer is on disk.
	leaseCtx, stopLeases := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLeases()
	all.Go(func() { _ = d.leases.book.Run(leaseCtx, d.leases.report) })
	// So do hand-off files.
	handoffCtx, stopHandoff := context.WithCancel(context.WithoutCancel(ctx))
	defer stopHandoff()
	all.Go(func() { d.handoff.Run(handoffCtx) })
	select {
	case <-d.super.Adopted():
		d.handoff.Adopted()
	case <-ctx.Done():
		return ended(ctx)
	}
	served := make(chan error, 1)
	all.Go(func() { served <- d.api.Serve(ctx, listeners(sockets)...) })
	d.ready()
	publish := newPublisher(d.client, filepath.Join(d.o.runtimeDir, filepath.Base(fleet.SettingsFile)), d.log)
	d.publish = publish.apply
	d.publishHost(false)
	all.Go(func() { publish.run(ctx) })
	watch := newGuard(d, d.client, sockets)
	all.Go(func() { watch.run(ctx) })
	all.Go(func() { d.watchDisk(ctx) })
	all.Go(func() { d.history.Run(ctx) })
	all.Go(func() { d.bench.Run(ctx) })
	for {
		select {
		case <-reload:
			d.reload(ctx, reloadRequest{})
		case ask := <-d.reloads:
			d.reload(ctx, ask)
		case err := <-served:
			d.stopping()
			return errors.Join(ended(ctx), err)
		}
	}
}

// publishHost has this host published as the settings in force want it.
func (d *daemon) publishHost(reload bool) {
	if d.settings != nil {
		d.fleet.configured.Store(len(d.settings.Fleet.Etcd.Endpoints) > 0)
		places := placesOf(d.settings.Fleet)
		d.fleet.places.Store(&places)
		d.fleet.self.Store(&d.settings.Fleet.AdvertiseURL)
		d.publish(d.settings.Fleet, reload)
	}
}

// ended returns nil for an ordinary stop, else the cause.
func ended(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (d *daemon) ready() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.notify.Ready(d.status); err != nil {
		d.log.Warn("could not notify PID 1 that the daemon is ready", "err", err)
	}
}

func (d *daemon) stopping() {
	if err := d.notify.Stopping(); err != nil {
		d.log.Debug("could not notify PID 1 of the shutdown", "err", err)
	}
}

// setStatus is called by the supervisor's loop.
func (d *daemon) setStatus(line string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.status = line
	if err := d.notify.Status(line); err != nil {
		d.log.Debug("could not send the status to PID 1", "err", err)
	}
}

// load reads every file of the configuration. If config.toml is invalid, the former one stays in
// force; without a former one, nothing is started or stopped.
func (d *daemon) load(acceptEmpty bool) supervise.Desired {
	c := d.read(acceptEmpty)
	for _, p := range c.Problems {
		d.log.Error("configuration: "+p.Error(), "hint", p.Action(), catalogue.Key, catalogue.FileRefused)
	}
	for _, n := range c.Notes {
		d.log.Info("configuration: " + n)
	}
	want := supervise.Desired{Pools: c.Pools, HostProblems: d.stateProblems()}
	for _, p := range c.Problems {
		problem := registry.Problem{File: p.File, PoolID: p.PoolID, Text: p.Error(), Hint: p.Action()}
		if p.File == d.o.configFile {
			want.HostProblems = append(want.HostProblems, problem)
		} else {
			want.Problems = append(want.Problems, problem)
		}
	}
	switch {
	case c.SettingsGood:
		d.settle(c.Settings)
	case d.settings == nil:
		want.HostInvalid, want.Pools = true, nil
	}
	if d.settings != nil {
		host := &d.settings.Host
		want.Preload = host.Preload
		want.Refuse = func(p pool.Pool) *registry.Failure { return host.Refuse(p, c.Binaries) }
		want.SoftReboot, want.VRAMOnly = host.SurviveSoftReboot, host.Policy.VRAMOnly
	}
	if d.pulls != nil {
		d.pulls.Prefetch(prefetched(want))
	}
	return want
}

// read reads the files and checks pools against the settings that will be in force. A part that is
// gone since it was last read is a problem, unless it may be empty.
func (d *daemon) read(acceptEmpty bool) hostconfig.Config {
	former := d.former
	if acceptEmpty {
		former = hostconfig.Former{}
	}
	var inForce *config.Host
	if d.settings != nil {
		inForce = &d.settings.Host
	}
	c, next := former.Load(d.o.configFile, d.o.poolsDir, inForce)
	d.remember(next)
	read := sourcesOf(c)
	d.sources.Store(&read)
	return c
}

// settle puts a good config.toml in force.
func (d *daemon) settle(s hostconfig.Settings) {
	d.level.Set(s.Log.Slog())
	d.form.Set(logForm(s.Log.Format))
	if d.api != nil {
		if err := d.api.Apply(apiSettings(s)); err != nil {
			d.log.Error("could not apply the settings of the API; the former ones stay in force", "err", err,
				catalogue.Key, catalogue.AccessRefused)
		}
	}
	if d.obtainer != nil {
		d.configureFetches(s.Host)
	}
	d.settings = &s
}

// logForm is the form of the log's entries by its name in config.toml.
func logForm(format string) int32 {
	switch format {
	case hostconfig.FormatJSON:
		return systemd.LogLines
	case hostconfig.FormatJournal:
		return systemd.LogJournal
	}
	return systemd.LogAuto
}

func apiSettings(s hostconfig.Settings) api.Settings {
	return api.Settings{TokenFile: s.Auth.TokenFile, AuthOptional: s.Auth.Optional, TrustProxyAuth: s.Auth.TrustProxy,
		CertFile: s.Auth.CertFile, KeyFile: s.Auth.KeyFile, InsecurePublic: s.Auth.Insecure,
		HostNames: s.Auth.HostNames}
}
