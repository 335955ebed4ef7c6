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

// The ends of a promise that no one releases.
const (
	// promiseLife is longer than any load, and short enough that a mistake here does not hold
	// memory for a day.
	promiseLife = time.Hour
	// emptyFor is how long a unit may have no process at all: between its pre-start step and its
	// engine, PID 1 makes one after the other.
	emptyFor = 10 * time.Second
)

// mostHolders bounds the list of a refusal: the largest are who to look at.
const mostHolders = 16

// ledger is the memory that is promised to units which are loading, and may not hold it yet. Pure:
// facts and the time are arguments.
type ledger struct {
	promises map[string]promise // by unit
}

type promise struct {
	needs map[string]uint64 // bytes by device
	group owner.Group
	given time.Time
	empty time.Time // since when its group has no process; zero: it has
}

func newLedger() *ledger { return &ledger{make(map[string]promise)} }

// reserve promises all of needs to a unit, or nothing: then it returns every device that has too
// little. It ends a former promise to the same unit in any case: that start is over.
func (l *ledger) reserve(g owner.Group, needs map[string]uint64, s *nvml.Snapshot, now time.Time) []wire.Short {
	l.release(g.Unit)
	short := l.short(g.Unit, needs, s)
	if len(short) == 0 {
		l.promises[g.Unit] = promise{needs: maps.Clone(needs), group: g, given: now}
	}
	return short
}

// release ends the promise to a unit, if there is one.
func (l *ledger) release(unit string) { delete(l.promises, unit) }

// expire ends what is too old, and promises to units without a process for long. populated is asked
// for each promise that is left.
func (l *ledger) expire(now time.Time, populated func(owner.Group) bool) (ended []string) {
	for unit, p := range l.promises {
		switch {
		case now.Sub(p.given) >= promiseLife:
		case populated(p.group):
			p.empty = time.Time{}
			l.promises[unit] = p
			continue
		case p.empty.IsZero():
			p.empty = now
			l.promises[unit] = p
			continue
		case now.Sub(p.empty) < emptyFor:
			continue
		}
		delete(l.promises, unit)
		ended = append(ended, unit)
	}
	slices.Sort(ended)
	return ended
}

// short lists the devices that have too little for the unit, by name. A device whose memory is not
// known is never short: what cannot be known stops no start.
func (l *ledger) short(unit string, needs map[string]uint64, s *nvml.Snapshot) []wire.Short {
	var all []wire.Short
	for _, device := range slices.Sorted(maps.Keys(needs)) {
		h, ok := holdingOf(s, device)
		if !ok || h.memory == nil {
			continue
		}
		owed, sum := l.owed(unit, h)
		if needs[device] > available(h.memory.Free, sum) {
			all = append(all, wire.Short{Device: device, Need: needs[device], Free: h.memory.Free, Promised: sum,
				Total: h.memory.Total, Holders: holders(h, owed)})
		}
	}
	return all
}

// available is what is left of free, never below 0.
func available(free, promised uint64) uint64 { return free - min(free, promised) }

// owed is what other units were promised of a device and do not hold yet, by unit and in sum. The
// sum stops at the largest number.
func (l *ledger) owed(unit string, h holding) (byUnit map[string]uint64, sum uint64) {
	byUnit = make(map[string]uint64)
	for other, p := range l.promises {
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

// holding is one device as far as memory goes: a GPU, which takes in the promises on its
// partitions, or a partition.
type holding struct {
	memory    *nvml.Memory
	processes []nvml.Process
	covers    map[string]bool
	parts     map[string][]nvml.Process // of partitions
}

func holdingOf(s *nvml.Snapshot, uuid string) (holding, bool) {
	if p, _, ok := s.Partition(uuid); ok {
		return holding{memory: p.Memory, processes: p.Processes, covers: map[string]bool{uuid: true}}, true
	}
	d, ok := s.Device(uuid)
	if !ok {
		return holding{}, false
	}
	h := holding{memory: d.Memory, processes: d.Processes, covers: map[string]bool{uuid: true},
		parts: make(map[string][]nvml.Process)}
	for _, p := range d.Partitions {
		h.covers[p.UUID] = true
		h.parts[p.UUID] = p.Processes
	}
	return h, true
}

// usedBy is what a unit's processes hold of a device, as far as the driver reports it.
func (h holding) usedBy(unit, device string) (sum uint64) {
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

// holders are the units and processes that have memory of a device or the promise of it, the
// largest first.
func holders(h holding, owed map[string]uint64) []wire.Holder {
	byName := make(map[string]wire.Holder)
	for _, p := range h.processes {
		key := cmp.Or(p.Unit, strconv.Itoa(p.PID))
		holder, again := byName[key]
		holder.Unit, holder.PID = p.Unit, p.PID
		if again {
			holder.PID = 0 // several: the unit names them
		}
		if p.Used != nil {
			holder.Used = add(holder.Used, *p.Used)
		}
		byName[key] = holder
	}
	for unit, bytes := range owed {
		holder := byName[unit]
		holder.Unit, holder.Promised = unit, bytes
		byName[unit] = holder
	}
	all := slices.SortedFunc(maps.Values(byName), func(a, b wire.Holder) int {
		return cmp.Or(cmp.Compare(add(b.Used, b.Promised), add(a.Used, a.Promised)), cmp.Compare(a.Unit, b.Unit),
			cmp.Compare(a.PID, b.PID))
	})
	return all[:min(len(all), mostHolders)]
}
