package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/lease/leaselog"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/boltfile"
)

// guardEvery is how often the files and sockets of the manager are looked at. Each look is a few
// calls of stat(2).
const guardEvery = 10 * time.Second

// guard notices files and sockets of the manager that another program deleted while it runs, as
// "rm -rf /run/pool-managerd/*" does, and brings them back.
type guard struct {
	d       *daemon
	restart func(ctx context.Context, unit string) error // of a socket unit that runs
	sockets []guarded
	rescued bool // the leases' directory was gone at the last look
}

// guarded is a listening socket, which PID 1 owns.
type guarded struct {
	path, unit string
	gone       bool // it was gone at the last look
}

// newGuard guards the API's unix socket and the GPU helper's, which is in the same directory.
func newGuard(d *daemon, client *systemd.Client, listeners []net.Listener) *guard {
	g := &guard{d: d, restart: func(ctx context.Context, unit string) error {
		job, err := client.TryRestart(ctx, unit)
		if err != nil {
			return err
		}
		return job.Wait(ctx)
	}}
	for _, l := range listeners {
		if l.Addr().Network() == "unix" {
			g.sockets = append(g.sockets, guarded{path: l.Addr().String(), unit: "pool-managerd.socket"})
		}
	}
	g.sockets = append(g.sockets, guarded{path: d.o.gpuSocket, unit: "pool-gpu.socket"})
	return g
}

// run looks until ctx ends.
func (g *guard) run(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.look(ctx)
		}
	}
}

// look checks everything once. The API's socket is the first of the sockets, and its restart
// restarts this program: files come before it.
func (g *guard) look(ctx context.Context) {
	g.d.store.Check()
	g.d.keep.Check()
	g.checkLeases()
	g.d.handoff.Check()
	if n, err := g.d.histories.Check(); n > 0 || err != nil {
		g.d.log.Error("notes on past failures of engines were deleted; they are written again", "files", n, "err", err)
	}
	g.d.checkFormer()
	for i := len(g.sockets) - 1; i >= 0; i-- {
		g.checkSocket(ctx, &g.sockets[i])
	}
}

// checkLeases writes the leases again. Where their directory is gone, this program cannot make it
// again: its sandbox shows /run read-only, and PID 1 gives the directory to the next process, which
// the restart of the API's socket starts. Until then the leases are among the state.
func (g *guard) checkLeases() {
	g.d.leaseFile.Check()
	to := g.d.rescuePath()
	kept, gone, err := g.d.leaseFile.Rescue(to)
	switch {
	case err != nil:
		g.d.log.Error(fmt.Sprintf("%s was deleted, and its leases could not be kept", g.d.o.runtimeDir), "err", err,
			"hint", "A restart of the manager makes the directory again, and ends these leases.")
	case gone && !g.rescued:
		g.d.log.Error(fmt.Sprintf("%s was deleted; its leases are kept, and the manager restarts", g.d.o.runtimeDir),
			"leases", kept, "file", to, "hint",
			"Find out which program deletes files below /run. Engines are not affected.")
	}
	g.rescued = gone
}

// checkSocket has PID 1 make a socket again that is gone. One look later, so that a socket unit
// that just stops or starts is left alone. A unit that an administrator stopped stays stopped.
func (g *guard) checkSocket(ctx context.Context, s *guarded) {
	_, err := os.Lstat(s.path)
	if !errors.Is(err, fs.ErrNotExist) {
		s.gone = false
		return
	}
	if !s.gone {
		s.gone = true
		return
	}
	s.gone = false
	g.d.log.Error(fmt.Sprintf("%s was deleted; restarting %s, which makes it again", s.path, s.unit),
		"hint", "Find out which program deletes files below /run/pool-managerd. Engines are not affected.")
	if err := g.restart(ctx, s.unit); err != nil && ctx.Err() == nil {
		g.d.log.Error("could not restart "+s.unit, "err", err, "hint", "Run systemctl restart "+s.unit+".")
	}
}

// goneReport logs a bbolt file that another program deleted or replaced.
func (d *daemon) goneReport(r boltfile.Report, unsaved string) {
	d.logGone(r.Path, r.Aside, r.Kept, r.Refused, unsaved)
}

// leasesGone logs that the file of leases was deleted or replaced.
func (d *daemon) leasesGone(path string) func(leaselog.Report) {
	return func(r leaselog.Report) { d.logGone(path, r.Aside, r.Kept, r.Refused, "") }
}

func (d *daemon) logGone(path, aside string, kept int, refused error, unsaved string) {
	if refused != nil {
		d.log.Error(fmt.Sprintf("%s was deleted while in use: %s", path, unsaved), "err", refused, "hint",
			"If its directory is gone, too, systemctl restart pool-managerd makes it again; requests of operators "+
				"are to be "+
				"repeated then.")
		return
	}
	attrs := []any{"entries", kept, "hint", "Find out which program deletes or replaces the manager's files."}
	if aside != "" {
		attrs = append(attrs, "moved_to", aside)
	}
	d.log.Error(fmt.Sprintf("%s was deleted or replaced while in use; it is written again, complete", path), attrs...)
}
