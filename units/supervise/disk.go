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

// DiskCounted takes what engines have on the disk. Any goroutine may call it.
func (s *Supervisor) DiskCounted(rep disk.Report) { s.post(func() { s.diskCounted(rep) }) }

// DiskUrgent reports whether an engine is over its bound, so that it is to be counted again soon.
func (s *Supervisor) DiskUrgent() bool { return s.diskOver.Load() }

func (s *Supervisor) diskCounted(rep disk.Report) {
	for _, e := range s.entries {
		for _, r := range e.replicas {
			r.unit.disk.used = rep.Of[r.id.FileStem()]
			r.unit.disk.size, r.unit.disk.full = rep.Space.Bytes, rep.Full
			r.unit.disk.stopped = r.diskVerdict() == disk.FarOver
		}
		s.decidePool(e)
	}
	s.noteDisk()
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

// diskFailures returns that it has more on the disk than it may, and that it has so much more that
// it must not run.
func (r *replica) diskFailures() (over, far *registry.Failure) {
	verdict := r.diskVerdict()
	if verdict == disk.Within {
		return nil, nil
	}
	held := fmt.Sprintf("%d MiB", r.unit.disk.used.Bytes>>20)
	if r.unit.disk.used.More {
		held = fmt.Sprintf("more than %d files", r.unit.disk.used.Files)
	}
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
