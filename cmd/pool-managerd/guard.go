package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/catalogue"
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
	running func(ctx context.Context, unit string) (bool, error)
	restart func(ctx context.Context, unit string) error // of a socket unit that runs
	sockets []guarded
	rescued bool // the leases' directory was gone at the last look
}

// guarded is a listening socket, which PID 1 owns.
type guarded struct {
	path, unit string
	with       string // the unit whose restart makes it again; empty: its own
	gone       bool   // it was gone at the last look
}

// remaker returns the unit whose restart makes the socket again.
func (s *guarded) remaker() string { return cmp.Or(s.with, s.unit) }

// newGuard guards the API's unix sockets, and the GPU helper's, which is in the same directory.
func newGuard(d *daemon, client *systemd.Client, a *systemd.Activation) *guard {
	g := &guard{d: d, running: func(ctx context.Context, unit string) (bool, error) {
		units, err := client.List(ctx, unit)
		return slices.ContainsFunc(units, func(u systemd.Listed) bool { return u.ActiveState == "active" }), err
	}, restart: func(ctx context.Context, unit string) error {
		job, err := client.TryRestart(ctx, unit)
		if err != nil {
			return err
		}
		return job.Wait(ctx)
	}}
	for _, name := range slices.Sorted(maps.Keys(a.Listeners)) {
		s := guarded{unit: apiUnit}
		if name == adminName {
			// PID 1 starts no socket of a service that runs; the other one's restart restarts that.
			s = guarded{unit: adminUnit, with: apiUnit}
		}
		for _, l := range a.Listeners[name] {
			if l.Addr().Network() == "unix" {
				s.path = l.Addr().String()
				g.sockets = append(g.sockets, s)
			}
		}
	}
	g.sockets = append(g.sockets, guarded{path: d.o.gpuSocket, unit: "pool-gpu.socket"})
	return g
}

// The socket units of the API, and the name under which PID 1 passes the socket of administrators.
const (
	apiUnit   = "pool-managerd.socket"
	adminUnit = "pool-managerd-admin.socket"
	adminName = "admin"
)

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

// look checks everything once. The API's sockets are the first of the sockets, and their restart
// restarts this program: files come before it.
func (g *guard) look(ctx context.Context) {
	g.d.store.Check()
	g.d.keep.Check()
	g.d.measured.Check()
	g.checkLeases()
	g.d.handoff.Check()
	g.checkNotes()
	g.d.checkFormer()
	var restarted []string
	for i := len(g.sockets) - 1; i >= 0; i-- {
		s := &g.sockets[i]
		if slices.Contains(restarted, s.remaker()) {
			s.gone = false
		} else if g.checkSocket(ctx, s) {
			restarted = append(restarted, s.remaker())
		}
	}
}

// checkNotes writes the notes on past failures again, elsewhere where their directory is gone.
func (g *guard) checkNotes() {
	switch needed, err := g.d.histories.Rescue(g.d.rescuedNotes()); {
	case err != nil:
		g.d.log.Error("notes on past failures of engines were deleted, and could not be kept", "err", err)
		return
	case needed:
		return // the loss of the directory is logged with its leases
	}
	if n, err := g.d.histories.Check(); n > 0 || err != nil {
		g.d.log.Error("notes on past failures of engines were deleted; they are written again", "files", n, "err", err)
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
func (g *guard) checkSocket(ctx context.Context, s *guarded) (restarted bool) {
	_, err := os.Lstat(s.path)
	if !errors.Is(err, fs.ErrNotExist) {
		s.gone = false
		return false
	}
	if !s.gone {
		s.gone = true
		return false
	}
	s.gone = false
	unit := s.remaker()
	running, err := g.running(ctx, s.unit)
	if err == nil && !running {
		return false
	}
	g.d.log.Error(fmt.Sprintf("%s was deleted; restarting %s, which makes it again", s.path, unit),
		"hint", "Find out which program deletes files below /run/pool-managerd. Engines are not affected.")
	if err = errors.Join(err, g.restart(ctx, unit)); err != nil && ctx.Err() == nil {
		g.d.log.Error("could not restart "+unit, "err", err, "hint", "Run systemctl restart "+unit+".")
	}
	return true
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
	attrs := []any{catalogue.Key, catalogue.StateReplaced, "entries", kept, "hint",
		"Find out which program deletes or replaces the manager's files."}
	if aside != "" {
		attrs = append(attrs, "moved_to", aside)
	}
	d.log.Error(fmt.Sprintf("%s was deleted or replaced while in use; it is written again, complete", path), attrs...)
}
