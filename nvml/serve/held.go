package serve

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// unlistedMemory is how much memory may be in use on a device beyond what its processes hold, in
// bytes: the driver's own share (9 MiB on an H100) is below it, the smallest CUDA context above.
const unlistedMemory = 32 << 20

// held returns what the processes of a unit hold of each device. A device on which none is listed
// is "unknown" unless the driver's list can be believed: absence of a process from a list that
// others are missing from proves nothing. lives reports whether this host has a process of that
// number.
func held(s *nvml.Snapshot, unit string, devices []string, lives func(pid int) bool) []wire.Held {
	all := make([]wire.Held, len(devices))
	for i, uuid := range devices {
		all[i] = heldOf(s, unit, uuid)
		if all[i].Processes == 0 {
			all[i].Unknown = doubt(s, uuid, lives)
		}
	}
	return all
}

func heldOf(s *nvml.Snapshot, unit, uuid string) wire.Held {
	h := wire.Held{Device: uuid}
	m, _ := memoryOf(s, uuid)
	for _, p := range m.processes {
		if p.Unit != unit {
			continue
		}
		h.Processes++
		if p.Used != nil {
			if h.Used == nil {
				h.Used = new(uint64)
			}
			*h.Used = add(*h.Used, *p.Used)
		}
	}
	return h
}

// doubt returns why the list of a device's processes may lack some; "" if nothing speaks against
// it.
func doubt(s *nvml.Snapshot, uuid string, lives func(pid int) bool) string {
	if s.Driver.Problem != nil {
		return "the NVIDIA driver reports no data: " + s.Driver.Problem.Text
	}
	m, ok := memoryOf(s, uuid)
	switch {
	case !ok:
		return "NVML reports no device " + uuid
	case m.problem != nil:
		return "the GPU does not answer: " + m.problem.Text
	case !m.listed:
		return "the driver does not list the processes of this device"
	}
	var sum uint64
	for _, p := range m.processes {
		if !lives(p.PID) {
			return fmt.Sprintf("process %d, which holds memory there, does not exist in this PID namespace", p.PID)
		}
		if p.Used == nil {
			return "" // it may hold the rest of the memory
		}
		sum = add(sum, *p.Used)
	}
	if m.memory != nil && m.memory.Used > sum && m.memory.Used-sum >= unlistedMemory {
		return fmt.Sprintf("%d MiB are in use there beyond what the listed processes hold",
			(m.memory.Used-sum)>>20)
	}
	return ""
}
