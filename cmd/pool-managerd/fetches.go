package main

import (
	"context"
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/config"
)

// fetches implements obtain.PID1 with systemd's client.
type fetches struct{ *systemd.Client }

// Stop implements obtain.PID1.
func (f fetches) Stop(ctx context.Context, unit string) error {
	job, err := f.Client.Stop(ctx, unit)
	return stopped(ctx, job, err)
}

// configureFetches puts the settings of downloads in force.
func (d *daemon) configureFetches(h config.Host) {
	s := h.Fetching()
	s.Uses = filepath.Join(d.o.stateDir, "models")
	d.obtainer.Configure(s)
}
