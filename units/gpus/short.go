package gpus

import (
	"cmp"
	"maps"
	"slices"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// Short lists the devices that have less free memory than they are to give, as the helper would,
// but without what it has promised. It is empty where facts are missing.
func (b *Board) Short(need map[string]uint64) []wire.Short {
	var out []wire.Short
	for _, uuid := range slices.Sorted(maps.Keys(need)) {
		free, known := b.Free(uuid)
		if !known || free >= need[uuid] {
			continue
		}
		out = append(out, wire.Short{Device: uuid, Need: need[uuid], Free: free, Total: b.memory(uuid).Total,
			Holders: holders(b.processes(uuid))})
	}
	return out
}

// holders are the processes that hold memory, the largest first.
func holders(list []nvml.Process) []wire.Holder {
	var out []wire.Holder
	for _, p := range list {
		if p.Used != nil {
			out = append(out, wire.Holder{Unit: p.Unit, PID: p.PID, Used: *p.Used})
		}
	}
	slices.SortFunc(out, func(a, b wire.Holder) int {
		return cmp.Or(cmp.Compare(b.Used, a.Used), cmp.Compare(a.PID, b.PID))
	})
	return out
}

// processes are those that hold memory of a GPU or partition.
func (b *Board) processes(uuid string) []nvml.Process {
	if d, ok := b.snapshot.Device(uuid); ok {
		return d.Processes
	}
	p, _, _ := b.snapshot.Partition(uuid)
	return p.Processes
}
