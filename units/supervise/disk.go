package supervise

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/disk"
)

// diskUse is what a replica's directories held when they were counted last.
type diskUse struct {
	used    disk.Usage
	size    uint64 // of the file system
	full    bool   // it was nearly full
	stopped bool   // the engine was to be stopped for it, and may start only within its bound
}

// heldDisk is why an engine may not start, as it is written down: the next manager has counted
// nothing yet, and would start it for some seconds.
type heldDisk struct {
	Used disk.Usage `json:"used"`
	Size uint64     `json:"size"`
	Full bool       `json:"full,omitempty"`
}

// DiskCounted takes what engines have on the disk. Any goroutine may call it.
func (s *Supervisor) DiskCounted(rep disk.Report) { s.post(func() { s.diskCounted(rep) }) }

// DiskUrgent reports whether an engine is over its bound, so that it is to be counted again soon.
func (s *Supervisor) DiskUrgent() bool { return s.diskOver.Load() }

func (s *Supervisor) diskCounted(rep disk.Report) {
	for _, e := range s.entries {
		for _, r := range e.replicas {
			use := &r.unit.disk
			use.used, use.size, use.full = rep.Of[r.id.FileStem()], rep.Space.Bytes, rep.Full
			use.stopped = r.diskVerdict() == disk.FarOver
			s.keepHeld(r)
		}
		s.decidePool(e)
	}
	s.noteDisk()
}

// keepHeld writes down that the engine is held back, or no longer.
func (s *Supervisor) keepHeld(r *replica) {
	use := r.unit.disk
	if use.stopped == (r.past.Disk != nil) {
		return
	}
	if r.past.Disk = nil; use.stopped {
		r.past.Disk = &heldDisk{use.used, use.size, use.full}
	}
	s.saveHistory(r)
}

// noteDisk notes whether any engine is over its bound.
func (s *Supervisor) noteDisk() {
	over := false
	for _, e := range s.entries {
		for _, r := range e.replicas {
			over = over || r.diskVerdict() != disk.Within
		}
	}
	s.diskOver.Store(over)
}

// diskBound is how much the replica may have on the disk.
func (r *replica) diskBound() uint64 { return disk.Bound(r.wish.pool.StateMaxBytes, r.unit.disk.size) }

func (r *replica) diskVerdict() disk.Verdict {
	if r.unit.disk.used.Bytes == 0 || r.external() || !r.wish.known {
		return disk.Within // nothing was counted, or no file says how much it may be
	}
	return disk.Evaluate(r.unit.disk.used, r.diskBound(), r.unit.disk.full, r.unit.disk.stopped)
}

// heldOnDisk is what is known of a usage, as far as it was counted.
func heldOnDisk(u disk.Usage) string {
	switch {
	case u.More && u.Files > disk.MostFiles:
		return fmt.Sprintf("more than %d files", disk.MostFiles)
	case u.More:
		return fmt.Sprintf("more than %d directories within one another", disk.MostDepth)
	}
	return fmt.Sprintf("%d MiB", u.Bytes>>20)
}

// diskFailures returns that it has more on the disk than it may, and that it has so much more that
// it must not run.
func (r *replica) diskFailures() (over, far *registry.Failure) {
	verdict := r.diskVerdict()
	if verdict == disk.Within {
		return nil, nil
	}
	held := heldOnDisk(r.unit.disk.used)
	state, cache := "/var/lib/private/pool-engine/"+r.id.FileStem(), "/var/cache/private/pool-engine/"+r.id.FileStem()
	message := fmt.Sprintf("its directories hold %s; [limits] state_max is %d MiB", held, r.diskBound()>>20)
	hint := fmt.Sprintf("Delete what it does not need below %s and %s, or raise state_max.", state, cache)
	if verdict == disk.Over {
		return registry.Fail(registry.CodeStateTooLarge, message,
			hint+" At twice of it, or where the disk is nearly full, the engine is stopped."), nil
	}
	why := ", and it is stopped at twice of that"
	if r.unit.disk.used.Bytes/2 <= r.diskBound() {
		why = ", and the disk was nearly full"
	}
	return nil, registry.Fail(registry.CodeStateTooLarge, message+why,
		hint+" It is started again within a minute after that.")
}
