package driver

import (
	"cmp"
	"maps"
	"slices"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// notAvailable is NVML_VALUE_NOT_AVAILABLE as an unsigned number: the driver does not know what a
// process uses.
const notAvailable = ^uint64(0)

// contexts are the processes with any kind of context on a GPU or partition, as the driver lists
// them.
type contexts struct {
	infos  []gonvml.ProcessInfo
	listed bool // the driver lists those that compute
}

// contexts asks for all lists that the driver has.
func (r *reading) contexts(h gonvml.Device) (c contexts) {
	for i, list := range []struct {
		name string
		f    func() ([]gonvml.ProcessInfo, gonvml.Return)
	}{
		{"nvmlDeviceGetComputeRunningProcesses_v3", h.GetComputeRunningProcesses},
		{"nvmlDeviceGetGraphicsRunningProcesses_v3", h.GetGraphicsRunningProcesses},
		{"nvmlDeviceGetMPSComputeRunningProcesses_v3", h.GetMPSComputeRunningProcesses},
	} {
		if infos := get(r, list.name, list.f); infos != nil {
			c.infos = append(c.infos, *infos...)
			c.listed = c.listed || i == 0
		}
	}
	return c
}

// in returns the contexts of one MIG instance, from the list of its GPU.
func (c contexts) in(gi, ci int) contexts {
	inside := contexts{listed: c.listed}
	for _, info := range c.infos {
		if int(info.GpuInstanceId) == gi && int(info.ComputeInstanceId) == ci {
			inside.infos = append(inside.infos, info)
		}
	}
	return inside
}

// processes returns the processes of the lists. A process with several contexts is in several
// lists, each time with its total use, so the largest counts and not the sum.
func (r *reading) processes(c contexts) []nvml.Process {
	byPID := make(map[int]nvml.Process)
	merge(byPID, c.infos)
	all := slices.SortedFunc(maps.Values(byPID), func(a, b nvml.Process) int { return cmp.Compare(a.PID, b.PID) })
	for i := range all {
		all[i].Unit = r.d.o.Tree.Of(all[i].PID).Unit
	}
	return all
}

func merge(byPID map[int]nvml.Process, infos []gonvml.ProcessInfo) {
	for _, info := range infos {
		p := byPID[int(info.Pid)]
		p.PID = int(info.Pid)
		if used := info.UsedGpuMemory; used != notAvailable && (p.Used == nil || *p.Used < used) {
			p.Used = &used
		}
		byPID[p.PID] = p
	}
}
