package main

import (
	"path/filepath"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/eventfile"
)

// openEvents goes on with the events of the former manager. Without them readers see a gap, and
// nothing else is missing.
func (d *daemon) openEvents() {
	var past registry.Past
	var err error
	if d.eventFile, past, err = eventfile.Open(filepath.Join(d.o.runtimeDir, "events.json")); err != nil {
		d.log.Warn("could not go on with the events of the former manager; readers of events see a gap", "err", err)
	}
	d.registry.Continue(past)
}

// saveEvents leaves the events to the next manager.
func (d *daemon) saveEvents() {
	if err := d.eventFile.Save(d.registry.Past()); err != nil {
		d.log.Warn("could not save the events; readers of events see a gap after the restart", "err", err)
	}
}
