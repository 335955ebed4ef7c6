package serve

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// When a reservation that is not released expires.
const (
	// reservationLife is longer than any load, and short enough that a bug does not block memory
	// for a day.
	reservationLife = time.Hour
	// emptyFor is how long a unit may have no process, as it does for a moment between its
	// pre-start step and its engine.
	emptyFor = 10 * time.Second
)

// mostHolders bounds the list in a refusal to the largest.
const mostHolders = 16

// ledger is the memory that is reserved for units that are loading and may not have allocated it
// yet. It is pure: facts and the time are arguments.
type ledger struct {
	reservations map[string]reservation // by unit
}

type reservation struct {
	needs map[string]uint64 // bytes by device
	group owner.Group
	given time.Time
	empty time.Time // since when its control group has no process; zero: it has one
}

func newLedger() *ledger { return &ledger{make(map[string]reservation)} }

// reserve reserves all of needs for a unit, or nothing: then it returns every device that has too
// little. It always ends an earlier reservation of the unit, since that start is over.
func (l *ledger) reserve(g owner.Group, needs map[string]uint64, s *nvml.Snapshot, now time.Time) []wire.Short {
	l.release(g.Unit)
	short := l.short(g.Unit, needs, s)
	if len(short) == 0 {
		l.reservations[g.Unit] = reservation{needs: maps.Clone(needs), group: g, given: now}
	}
	return short
}

// release ends the reservation of a unit, if there is one.
func (l *ledger) release(unit string) { delete(l.reservations, unit) }

// expire ends reservations that are too old and those of units without a process for emptyFor. It
// calls populated for each of the others.
func (l *ledger) expire(now time.Time, populated func(owner.Group) bool) (ended []string) {
	for unit, p := range l.reservations {
		switch {
		case now.Sub(p.given) >= reservationLife:
		case populated(p.group):
			p.empty = time.Time{}
			l.reservations[unit] = p
			continue
		case p.empty.IsZero():
			p.empty = now
			l.reservations[unit] = p
			continue
		case now.Sub(p.empty) < emptyFor:
			continue
		}
		delete(l.reservations, unit)
		ended = append(ended, unit)
	}
	slices.Sort(ended)
	return ended
}

// short lists the devices that have too little memory for the unit, by name. A device whose memory
// is unknown is never short.
func (l *ledger) short(unit string, needs map[string]uint64, s *nvml.Snapshot) []wire.Short {
	var all []wire.Short
	for _, device := range slices.Sorted(maps.Keys(needs)) {
		h, ok := memoryOf(s, device)
		if !ok || h.memory == nil {
			continue
		}
		outstanding, sum := l.outstanding(unit, h)
		if needs[device] > available(h.memory.Free, sum) {
			all = append(all, wire.Short{Device: device, Need: needs[device], Free: h.memory.Free, Reserved: sum,
				Total: h.memory.Total, Holders: holders(h, outstanding)})
		}
	}
	return all
}

// available returns what is left of free, never below 0.
func available(free, reserved uint64) uint64 { return free - min(free, reserved) }

// outstanding returns how much of a device is reserved for other units and not allocated yet, by
// unit and in total. The total saturates.
func (l *ledger) outstanding(unit string, h deviceMemory) (byUnit map[string]uint64, sum uint64) {
	byUnit = make(map[string]uint64)
	for other, p := range l.reservations {
		if other == unit {
			continue
		}
		for device, bytes := range p.needs {
			if !h.covers[device] {
				continue
			}
			rest := bytes - min(bytes, h.usedBy(other, device))
			byUnit[other] = add(byUnit[other], rest)
			sum = add(sum, rest)
		}
		if byUnit[other] == 0 {
			delete(byUnit, other)
		}
	}
	return byUnit, sum
}

func add(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}

// deviceMemory is the memory of one device: a partition, or a GPU, whose reservations include those
// on its partitions.
type deviceMemory struct {
	memory    *nvml.Memory
	processes []nvml.Process
	listed    bool          // processes is what the driver lists
	problem   *nvml.Problem // of the GPU
	covers    map[string]bool
	parts     map[string][]nvml.Process // of partitions
}

func memoryOf(s *nvml.Snapshot, uuid string) (deviceMemory, bool) {
	if p, d, ok := s.Partition(uuid); ok {
		return deviceMemory{memory: p.Memory, processes: p.Processes, listed: p.Listed, problem: d.Problem,
			covers: map[string]bool{uuid: true}}, true
	}
	d, ok := s.Device(uuid)
	if !ok {
		return deviceMemory{}, false
	}
	h := deviceMemory{memory: d.Memory, processes: d.Processes, listed: d.Listed, problem: d.Problem,
		covers: map[string]bool{uuid: true},
		parts:  make(map[string][]nvml.Process)}
	for _, p := range d.Partitions {
		h.covers[p.UUID] = true
		h.parts[p.UUID] = p.Processes
	}
	return h, true
}

// usedBy returns how much of a device a unit's processes use, as far as the driver reports it.
func (h deviceMemory) usedBy(unit, device string) (sum uint64) {
	processes := h.processes
	if of, ok := h.parts[device]; ok {
		processes = of
	}
	for _, p := range processes {
		if p.Unit == unit && p.Used != nil {
			sum = add(sum, *p.Used)
		}
	}
	return sum
}

// holders returns the units and processes that use or have reserved memory of a device, the largest
// first.
func holders(h deviceMemory, outstanding map[string]uint64) []wire.Holder {
	byName := make(map[string]wire.Holder)
	for _, p := range h.processes {
		key := cmp.Or(p.Unit, strconv.Itoa(p.PID))
		holder, again := byName[key]
		holder.Unit, holder.PID = p.Unit, p.PID
		if again {
			holder.PID = 0 // several processes: only the unit is named
		}
		if p.Used != nil {
			holder.Used = add(holder.Used, *p.Used)
		}
		byName[key] = holder
	}
	for unit, bytes := range outstanding {
		holder := byName[unit]
		holder.Unit, holder.Reserved = unit, bytes
		byName[unit] = holder
	}
	all := slices.SortedFunc(maps.Values(byName), func(a, b wire.Holder) int {
		return cmp.Or(cmp.Compare(add(b.Used, b.Reserved), add(a.Used, a.Reserved)), cmp.Compare(a.Unit, b.Unit),
			cmp.Compare(a.PID, b.PID))
	})
	return all[:min(len(all), mostHolders)]
}
