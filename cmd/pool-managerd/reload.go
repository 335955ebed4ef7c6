package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry"
)

// reloadRequest asks for the configuration to be read again.
type reloadRequest struct {
	acceptEmpty bool                      // a part that is gone is meant to be gone
	by          string                    // who asked over the API; empty: a signal
	done        chan<- []registry.Problem // receives the problems when it is in force; nil: no one waits
}

// reload reads the configuration again. Valid files take effect; the others are reported, and their
// pools keep running as before.
func (d *daemon) reload(ctx context.Context, ask reloadRequest) {
	if err := d.notify.Reloading(); err != nil {
		d.log.Warn("could not notify PID 1 of the reload", "err", err)
	}
	if ask.by != "" {
		d.log.Info("reading the configuration again", "identity", ask.by, "accept_empty", ask.acceptEmpty)
	}
	if err := d.super.Apply(ctx, d.load(ask.acceptEmpty)); err != nil {
		d.log.Error("could not apply the reload", "err", err)
	}
	d.publishHost(true)
	if ask.done != nil {
		ask.done <- d.registry.Snapshot().Problems
	}
	d.ready()
}

// ReloadFiles implements api.Operator.
func (o operator) ReloadFiles(ctx context.Context, acceptEmpty bool, by string) ([]registry.Problem, error) {
	done := make(chan []registry.Problem, 1)
	select {
	case o.reloads <- reloadRequest{acceptEmpty, by, done}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case problems := <-done:
		return problems, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// openFormer reads what there was of the configuration when a former manager read it.
func (d *daemon) openFormer() {
	former, err := hostconfig.ReadFormer(d.formerPath())
	if err != nil {
		d.log.Error("could not read what the configuration had before; what is gone is not noticed "+
			"at this start", "err", err, "hint", "The record is written again now.")
	}
	d.former, d.recorded = former, err == nil && former != (hostconfig.Former{})
}

// remember records what there is of the configuration now, if that has changed.
func (d *daemon) remember(now hostconfig.Former) {
	d.formerMu.Lock()
	defer d.formerMu.Unlock()
	if now == d.former && d.recorded {
		return
	}
	d.former = now
	err := now.Write(d.formerPath())
	if d.recorded = err == nil; err != nil {
		d.log.Warn("could not record which files the configuration has; after a restart, a file or directory that is "+
			"gone "+
			"would not be noticed", "err", err)
	}
}

// checkFormer writes the record again if another program deleted it. It is called beside the loop
// that reads the configuration.
func (d *daemon) checkFormer() {
	d.formerMu.Lock()
	defer d.formerMu.Unlock()
	if _, err := os.Lstat(d.formerPath()); !d.recorded || !errors.Is(err, fs.ErrNotExist) {
		return
	}
	if err := d.former.Write(d.formerPath()); err != nil {
		d.log.Debug("could not write the record of the configuration again", "err", err)
		return
	}
	d.log.Error(d.formerPath() + " was deleted; it is written again")
}

func (d *daemon) formerPath() string { return filepath.Join(d.o.stateDir, hostconfig.FormerFile) }
