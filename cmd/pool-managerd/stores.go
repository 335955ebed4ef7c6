package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/registry/lease/leaselog"
	"github.com/pool-managerd/pool-managerd/units/boltfile"
	"github.com/pool-managerd/pool-managerd/units/keep"
	"github.com/pool-managerd/pool-managerd/units/perf/baselines"
	"github.com/pool-managerd/pool-managerd/units/provision"
)

// replacedFile is a damaged state file, shown as a problem until the renamed file is removed.
type replacedFile struct {
	aside   string
	problem registry.Problem
}

// openStores opens the files of the state that outlives the daemon. A damaged one is replaced, so
// that the daemon always starts.
func (d *daemon) openStores() error {
	d.store = provision.OpenStore(filepath.Join(d.o.stateDir, "verdicts.db"), d.reporter(
		"digests and versions that could not be read are found again",
		"digests and versions are found again at each start"))
	if err := d.openIntents(); err != nil {
		return errors.Join(err, d.store.Close())
	}
	if err := d.openLeases(); err != nil {
		return errors.Join(err, d.store.Close(), d.keep.Close())
	}
	d.measured = baselines.Open(filepath.Join(d.o.stateDir, "performance.db"), time.Now, d.reporter(
		"measurements of engines that could not be read are made again",
		"engines are measured again after each start"))
	return nil
}

// reporter reports damage of a bbolt file; lost and unsaved describe the consequences.
func (d *daemon) reporter(lost, unsaved string) func(boltfile.Report) {
	return func(r boltfile.Report) {
		if r.Gone {
			d.goneReport(r, unsaved)
			return
		}
		if r.Damage != nil && r.Aside != "" {
			d.replaced(r.Path, r.Aside, r.Damage, fmt.Sprintf("%s; %d entries were kept", lost, r.Kept))
		}
		if r.Refused != nil {
			d.log.Error(fmt.Sprintf("could not write %s: %s", r.Path, unsaved),
				"err", errors.Join(r.Damage, r.Refused))
		}
	}
}

// openIntents reads the requests of operators. Those that cannot be read are reported and lost.
func (d *daemon) openIntents() (err error) {
	if d.clock, err = keep.NewClock(); err != nil {
		return err
	}
	const lost = "requests of operators that could not be read are no longer in force: " +
		"drained pools start, models are those of the pool files"
	report := d.reporter(lost, "requests of operators cannot be saved")
	d.keep = keep.Open(filepath.Join(d.o.stateDir, "intents.db"), report)
	if !d.keep.Readable() {
		d.log.Error("could not read the requests of operators: drained pools start, models are those of the pool files")
	}
	d.openHistories()
	if d.intents, err = d.keep.Intents(); err != nil {
		d.log.Error("could not read some requests of operators; they are not in force", "err", err)
	}
	for id, i := range d.intents {
		left := i.AtStart(d.clock.Boot())
		if left == i {
			continue
		}
		if d.intents[id] = left; left.Empty() {
			delete(d.intents, id)
		}
		if err := d.keep.Put(id, left); err != nil { // it ends again at the next start
			d.log.Warn("could not delete what ended with the former manager or the former boot", "pool_id", id,
				"err", err)
		}
	}
	return nil
}

// openHistories reads the notes on past failures.
func (d *daemon) openHistories() {
	dir := filepath.Join(d.o.runtimeDir, "restarts")
	switch n, err := keep.RecoverHistories(dir, d.rescuedNotes()); {
	case err != nil:
		d.log.Warn("could not read all notes on past failures of engines of the former manager, whose directory was "+
			"deleted", "file", d.rescuedNotes(), "err", err)
	case n > 0:
		d.log.Info("read the notes on past failures of engines of the former manager, whose directory was deleted",
			"files", n)
	}
	d.histories, d.savedHistories = keep.OpenHistories(dir, d.log)
}

// openLeases reads the leases that a former manager granted since boot.
func (d *daemon) openLeases() error {
	path := filepath.Join(d.o.runtimeDir, "leases.db")
	switch recovered, err := leaselog.Recover(path, d.rescuePath()); {
	case err != nil:
		d.log.Error("could not read the leases of the former manager, whose directory was deleted", "file",
			d.rescuePath(), "err", err)
	case recovered:
		d.log.Info("read the leases of the former manager, whose directory was deleted")
	}
	file, r := leaselog.Open(path, formerLeases)
	switch {
	case r.Damage != nil && r.Aside != "":
		d.replaced(path, r.Aside, r.Damage, fmt.Sprintf("leases that could not be read are lost; %d were kept", r.Kept))
	case r.Damage == nil && r.Kept > 0:
		d.log.Info("imported the leases of an older version", "file", path, "leases", r.Kept)
	}
	if r.Torn > 0 {
		d.log.Warn("dropped an incomplete write at the end of the leases file; no caller had an answer to it",
			"file", path, "bytes", r.Torn)
	}
	if r.Refused != nil {
		d.log.Error("could not write "+path+"; no leases are granted", "err", r.Refused)
	}
	file.Report(d.leasesGone(path))
	book, err := lease.Open(file, bootTime, d.registry.LeasesChanged)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	d.leaseFile, d.leases = file, leases{book, d.registry, d.log}
	d.registry.CountLeases(book.Active)
	return nil
}

// rescuePath is where leases are while the directory of their file is gone. It is of one boot:
// after another, no lease is in force.
func (d *daemon) rescuePath() string {
	return filepath.Join(d.o.stateDir, "leases-"+d.clock.Boot()+".db")
}

// rescuedNotes is where the notes on past failures are while their directory is gone. They are of
// one boot as well: times in them are since the boot.
func (d *daemon) rescuedNotes() string {
	return filepath.Join(d.o.stateDir, "restarts-"+d.clock.Boot()+".json")
}

// formerLeases reads the file of version 0.1.0, a bbolt file.
func formerLeases(path string) (map[string][]byte, error) { return boltfile.Values(path, "leases") }

// replaced reports a state file that was damaged: in the log now, and among the problems of the
// configuration until its remains are removed.
func (d *daemon) replaced(path, aside string, damage error, consequence string) {
	hint := fmt.Sprintf("Check the disk; the damaged file is %s. "+
		"Remove it and run systemctl reload pool-managerd to clear this message.", aside)
	d.log.Error(fmt.Sprintf("%s was damaged and replaced: %s", path, consequence),
		"err", damage, "moved_to", aside, "hint", hint, catalogue.Key, catalogue.StateReplaced)
	text := fmt.Sprintf("%s was damaged (%v) and replaced: %s", filepath.Base(path), damage, consequence)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replacedFiles = append(d.replacedFiles,
		replacedFile{aside, registry.Problem{File: path, Text: text, Hint: hint}})
}

// stateProblems are the damaged state files that still exist.
func (d *daemon) stateProblems() (list []registry.Problem) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.replacedFiles = slices.DeleteFunc(d.replacedFiles, func(f replacedFile) bool {
		_, err := os.Lstat(f.aside)
		return errors.Is(err, os.ErrNotExist)
	})
	for _, f := range d.replacedFiles {
		list = append(list, f.problem)
	}
	return list
}
