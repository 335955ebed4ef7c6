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

// processes lists the processes that use memory, with any kind of context. A process with several
// contexts is in several lists, each time with its total use, so the largest counts and not the
// sum.
func (r *reading) processes(h gonvml.Device) []nvml.Process {
	byPID := make(map[int]nvml.Process)
	for _, list := range []struct {
		name string
		f    func() ([]gonvml.ProcessInfo, gonvml.Return)
	}{
		{"nvmlDeviceGetComputeRunningProcesses_v3", h.GetComputeRunningProcesses},
		{"nvmlDeviceGetGraphicsRunningProcesses_v3", h.GetGraphicsRunningProcesses},
		{"nvmlDeviceGetMPSComputeRunningProcesses_v3", h.GetMPSComputeRunningProcesses},
	} {
		if infos := get(r, list.name, list.f); infos != nil {
			merge(byPID, *infos)
		}
	}
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
