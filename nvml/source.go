package nvml

import (
	"context"
	"strconv"
	"time"
)

// Source reports what the GPUs are and what happens to them. The real one is the client of the
// helper process.
type Source interface {
	// Follow delivers until ctx ends, in order, from one goroutine. It outlives every death and
	// hang of the helper. The first update comes at once, if only to say that nothing is known.
	Follow(ctx context.Context, deliver func(Update)) error
}

// Update is one change of what is known. Exactly one of its fields is set.
type Update struct {
	Snapshot *Snapshot // the newest facts; they are fresh
	Event    *Event
	Stale    *Stale // the last snapshot is old, or there was none
}

// Stale says since when facts are no longer refreshed, and why. The next Snapshot ends it.
type Stale struct {
	Since   time.Time // when the last facts were fresh; the start of the daemon where there were none
	Problem Problem   // ProblemHelper or ProblemHung
}

// Device returns the physical GPU of that UUID.
func (s *Snapshot) Device(uuid string) (Device, bool) {
	if s == nil {
		return Device{}, false
	}
	for _, d := range s.Devices {
		if d.UUID == uuid {
			return d, true
		}
	}
	return Device{}, false
}

// Partition returns the MIG partition of that UUID, and the GPU that it is part of.
func (s *Snapshot) Partition(uuid string) (Partition, Device, bool) {
	if s == nil {
		return Partition{}, Device{}, false
	}
	for _, d := range s.Devices {
		for _, p := range d.Partitions {
			if p.UUID == uuid {
				return p, d, true
			}
		}
	}
	return Partition{}, Device{}, false
}

func itoa(n int) string { return strconv.Itoa(n) }
