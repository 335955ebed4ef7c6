package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/google/renameio/v2"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/systemd"
)

// fleetUnit is the unit of pool-fleet, which publishes this host. The manager opens no connection
// outside of the host, and needs nothing of what this unit does.
const fleetUnit = "pool-fleet.service"

const (
	fleetCalls = 5 * time.Second  // bounds the calls to PID 1 of one attempt
	fleetRetry = 30 * time.Second // before the next attempt
)

// fleetUnits is what is needed of PID 1; *systemd.Client is one.
type fleetUnits interface {
	List(ctx context.Context, pattern string) ([]systemd.Listed, error)
	Start(ctx context.Context, unit string) (*systemd.Job, error)
	Stop(ctx context.Context, unit string) (*systemd.Job, error)
	Kill(ctx context.Context, unit, who string, sig syscall.Signal) error
}

// publisher has pool-fleet run exactly while config.toml has an orchestrator or an etcd, with the
// settings that are in force. It waits for none of its jobs: PID 1 starts the program again when it
// ends.
type publisher struct {
	units fleetUnits
	file  string // of the settings
	log   *slog.Logger
	asked chan publishing // the newest request; one that was not taken is replaced
}

// publishing is a request.
type publishing struct {
	fleet  hostconfig.Fleet
	reload bool // secrets may have changed, too
}

func newPublisher(units fleetUnits, file string, log *slog.Logger) *publisher {
	return &publisher{units, file, log, make(chan publishing, 1)}
}

// apply asks for what the settings in force want. It never waits, and has one caller.
func (p *publisher) apply(f hostconfig.Fleet, reload bool) {
	select {
	case <-p.asked:
	default:
	}
	p.asked <- publishing{f, reload}
}

// run carries requests out until ctx ends.
func (p *publisher) run(ctx context.Context) {
	var retry <-chan time.Time
	var wanted publishing
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case wanted = <-p.asked:
		case <-retry:
		}
		retry = nil
		err := p.carryOut(ctx, wanted)
		if err == nil || ctx.Err() != nil {
			failing = false
			continue
		}
		if !failing {
			p.log.Warn("could not start or stop "+fleetUnit+"; this host is published as before", "err", err,
				"hint", "Is the package installed whole? systemctl status "+fleetUnit)
		}
		failing, retry = true, time.After(fleetRetry)
	}
}

// carryOut starts or stops the unit. One that runs reads its settings again, where there are others
// or at a reload: at SIGHUP it ends without taking the host back, and PID 1 starts it again.
func (p *publisher) carryOut(ctx context.Context, ask publishing) error {
	ctx, cancel := context.WithTimeout(ctx, fleetCalls)
	defer cancel()
	wanted, changed := ask.fleet.Wanted(), ask.reload
	if wanted {
		other, err := p.write(ask.fleet)
		if err != nil {
			return err
		}
		changed = changed || other
	}
	units, err := p.units.List(ctx, fleetUnit)
	if err != nil {
		return err
	}
	runs := slices.ContainsFunc(units, func(u systemd.Listed) bool {
		return u.ActiveState != "inactive" && u.ActiveState != "failed"
	})
	switch {
	case wanted && runs && !changed:
	case wanted && runs:
		return p.units.Kill(ctx, fleetUnit, "main", syscall.SIGHUP)
	case wanted:
		_, err = p.units.Start(ctx, fleetUnit)
	case runs:
		_, err = p.units.Stop(ctx, fleetUnit)
	}
	return err
}

// write writes the settings where they differ from those in the file.
func (p *publisher) write(f hostconfig.Fleet) (changed bool, err error) {
	content, err := fleet.Settings{AdvertiseURL: f.AdvertiseURL, Orchestrator: fleet.Orchestrator{
		URL: f.Orchestrator.URL, TokenFile: f.Orchestrator.TokenFile, CAFile: f.Orchestrator.CAFile,
		NodeID: f.Orchestrator.NodeID, IntervalMS: f.Orchestrator.Interval.Milliseconds()},
		Etcd: fleet.Etcd{Endpoints: f.Etcd.Endpoints, Prefix: f.Etcd.Prefix, TTLMS: f.Etcd.TTL.Milliseconds(),
			CAFile: f.Etcd.CAFile, CertFile: f.Etcd.CertFile, KeyFile: f.Etcd.KeyFile, Username: f.Etcd.Username,
			PasswordFile: f.Etcd.PasswordFile}}.Encode()
	if err != nil {
		return false, err
	}
	if former, err := os.ReadFile(p.file); err == nil && bytes.Equal(former, content) {
		return false, nil
	}
	return true, renameio.WriteFile(p.file, content, 0o644)
}
