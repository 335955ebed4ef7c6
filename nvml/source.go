package nvml

import (
	"context"
	"strconv"
	"time"
)

// Source reports the GPUs and their events. The real one is the client of the helper process.
type Source interface {
	// Follow delivers updates until ctx ends, in order, from one goroutine, also after the helper
	// dies or hangs. The first update comes at once, even if nothing is known yet.
	Follow(ctx context.Context, deliver func(Update)) error
	// Fresh has all GPUs sampled now and returns the sample, beside the updates of Follow. It
	// returns an error if NVML does not answer until ctx ends.
	Fresh(ctx context.Context) (*Snapshot, error)
}

// Update is one change. Exactly one of its fields is set.
type Update struct {
	Snapshot *Snapshot // the newest facts
	Event    *Event
	Stale    *Stale // the last snapshot is old, or there is none
}

// Stale reports since when facts have not been refreshed, and why. The next Snapshot ends it.
type Stale struct {
	Since   time.Time // time of the last facts; the start of the daemon if there were none
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
