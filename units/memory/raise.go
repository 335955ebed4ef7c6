package memory

import (
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
)

// A load that ends for want of memory shows that the need is larger than was known. What it lacked
// raises the need of the next start, which then waits for that memory instead of failing alike.
// Such a need is a conclusion from one failure, and may be too high: it holds for a time, and a
// run that serves ends it.

// Raised is a need that was raised after a load had ended for want of memory.
type Raised struct {
	Run     string        `json:"run"` // the unit's invocation id
	Code    registry.Code `json:"code"`
	At      time.Time     `json:"at"`      // of the end
	Times   int           `json:"times"`   // raised in a row, without a run between them that served
	Devices []uint64      `json:"devices"` // bytes by the position in the mask; nil: not raised
	Host    uint64        `json:"host"`    // bytes of main memory; 0: not raised
}

// How long a raised need holds: twice as long each time in a row.
const (
	raisedFirst = 10 * time.Minute
	raisedMost  = 6 * time.Hour
)

// Until returns when the need is no longer raised.
func (r Raised) Until() time.Time {
	d := raisedFirst
	for i := 1; i < r.Times && d < raisedMost; i++ {
		d *= 2
	}
	return r.At.Add(min(d, raisedMost))
}

// holds reports whether the need is still raised. A clock that was set back ends it.
func (r Raised) holds(now time.Time) bool {
	return now.Before(r.Until()) && !now.Before(r.At.Add(-raisedFirst))
}

// End is a load that ended for want of memory.
type End struct {
	Run     string
	Code    registry.Code
	At      time.Time
	Need    Need // with which it was started
	Targets []devices.Target
	Seen    []DeviceUse          // by the position in the mask; nil: it was not seen on its devices
	Failed  *classify.Allocation // that its log names; nil: none
	// MemoryMax is the limit of the unit's main memory at which the kernel killed it, in bytes; 0:
	// it was not for that.
	MemoryMax uint64
	// Room is how much main memory was available right after the kernel killed it without a limit
	// of its own, in bytes: what it had is free by then, so that it could have got as much. 0: it
	// is unknown, or it was not for that.
	Room uint64
}

// DeviceUse is what was seen of a device during a load, in bytes.
type DeviceUse struct {
	Used uint64 // the most that the engine had
	Room uint64 // the least that it had together with what was free: all that it could have got; 0: unknown
	Most uint64 // what the device has to give when no process uses it; 0: unknown
}

// finest is by how much the need of a device exceeds the room that was not enough. hostStep is
// which part of main memory that is there: what is available changes all the time.
const (
	finest   = 1 << 20
	hostStep = 32
)

// Raise returns what the next start needs; ok is false if nothing shows that it is more than the
// need of this one. It never exceeds what a device has to give.
func (e End) Raise() (r Raised, ok bool) {
	r = Raised{Run: e.Run, Code: e.Code, At: e.At, Times: 1}
	if e.MemoryMax > e.Need.Host {
		r.Host, ok = e.MemoryMax, true
	}
	// With less than the need, another process took what was free before.
	if e.Room > 0 && e.Room >= e.Need.Host {
		r.Host, ok = saturated(e.Room, e.Room/hostStep), true
	}
	bytes := make([]uint64, len(e.Targets))
	raised := false
	for i, t := range e.Targets {
		known := e.Need.Devices[t.UUID]
		bytes[i] = max(known, e.lacked(i, known, t))
		raised = raised || bytes[i] > known
	}
	if raised {
		r.Devices = bytes
	}
	return r, ok || raised
}

// lacked returns the least that the load needed of a device, as far as its end shows.
func (e End) lacked(i int, known uint64, t devices.Target) uint64 {
	var seen DeviceUse
	if len(e.Seen) == len(e.Targets) {
		seen = e.Seen[i]
	}
	least := seen.Used
	if f := e.Failed; f != nil && (f.Device == i || f.Device < 0 && len(e.Targets) == 1) {
		had := max(seen.Used, f.InUse)
		if had == 0 {
			had = known // it ended before it was seen
		}
		least = max(least, saturated(had, f.Bytes))
		if seen.Room >= known && seen.Room > 0 { // with less, another process had taken what was free before
			least = max(least, saturated(seen.Room, finest))
		}
	}
	most := seen.Most
	if most == 0 {
		most = t.Total
	}
	if most > 0 {
		least = min(least, most)
	}
	return least
}

// raise applies a raised need that holds.
func (n Need) raise(r Raised, targets []devices.Target, now time.Time) Need {
	if !r.holds(now) {
		return n
	}
	raised := &RaisedNeed{Code: r.Code, Until: r.Until(), Devices: n.Devices}
	higher := false
	if len(r.Devices) == len(targets) && len(targets) > 0 {
		devices := make(map[string]uint64, len(targets))
		for i, t := range targets {
			devices[t.UUID] = max(n.Devices[t.UUID], r.Devices[i])
			higher = higher || devices[t.UUID] > n.Devices[t.UUID]
		}
		n.Devices = devices
	}
	if r.Host > n.Host {
		raised.Host, higher = r.Host, true
	}
	if higher {
		n.Raised = raised
	}
	return n
}

// RaisedNeed is by what a need was raised.
type RaisedNeed struct {
	Code    registry.Code     // why the load before ended
	Until   time.Time         // when the need is what it was before
	Devices map[string]uint64 // the need of the devices without it
	Host    uint64            // bytes of main memory in place of Need.Host; 0: not raised
}

// Usual returns the need as it was before it was raised.
func (n Need) Usual() Need {
	if n.Raised != nil {
		n.Devices, n.Raised = n.Raised.Devices, nil
	}
	return n
}

// Over reports whether the need was raised for a time that is over.
func (n Need) Over(now time.Time) bool { return n.Raised != nil && !now.Before(n.Raised.Until) }

// MainMemory returns what the start needs of main memory, in bytes; 0: unknown, not checked.
func (n Need) MainMemory() uint64 {
	if n.Raised != nil {
		return max(n.Host, n.Raised.Host)
	}
	return n.Host
}
