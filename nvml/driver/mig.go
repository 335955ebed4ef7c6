package driver

import (
	"fmt"
	"math"
	"strings"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// mig reports whether MIG mode is on; nil if the GPU has no such mode.
func (r *reading) mig(h gonvml.Device) *bool {
	mode := get(r, "nvmlDeviceGetMigMode", func() (int, gonvml.Return) {
		current, _, ret := h.GetMigMode()
		return current, ret
	})
	if mode == nil {
		return nil
	}
	return new(*mode == gonvml.DEVICE_MIG_ENABLE)
}

// partitions lists the MIG devices of a GPU with those users. NVML reuses their handles, so nothing
// is kept between samples.
func (r *reading) partitions(parent nvml.Device, h gonvml.Device, users contexts) []nvml.Partition {
	most := get(r, "nvmlDeviceGetMaxMigDeviceCount", h.GetMaxMigDeviceCount)
	if most == nil {
		return nil
	}
	var all []nvml.Partition
	for i := range *most {
		m := get(r, "nvmlDeviceGetMigDeviceHandleByIndex", func() (gonvml.Device, gonvml.Return) {
			return h.GetMigDeviceHandleByIndex(i)
		})
		if m == nil {
			continue // NOT_FOUND: no partition has this number
		}
		if p, ok := r.partition(parent, *m, users); ok {
			all = append(all, p)
		}
	}
	return all
}

// partition reads one MIG device; ok is false without its UUID and ids. Where the driver lists
// processes by the GPU only, their instance is in that list.
func (r *reading) partition(parent nvml.Device, h gonvml.Device, users contexts) (nvml.Partition, bool) {
	uuid := get(r, "nvmlDeviceGetUUID", h.GetUUID)
	gi := get(r, "nvmlDeviceGetGpuInstanceId", h.GetGpuInstanceId)
	ci := get(r, "nvmlDeviceGetComputeInstanceId", h.GetComputeInstanceId)
	if uuid == nil || gi == nil || ci == nil {
		return nvml.Partition{}, false
	}
	own := r.contexts(h)
	if !own.listed {
		own = users.in(*gi, *ci)
	}
	p := nvml.Partition{UUID: *uuid, GI: *gi, CI: *ci, Memory: r.memory(h), Processes: r.processes(own),
		Listed: own.listed}
	p.Profile = r.profile(parent, h)
	p.Nodes = r.d.minors.nodes(parent, p.GI, p.CI)
	return p, true
}

// profile returns the end of the partition's name, "NVIDIA A100-SXM4-40GB MIG 1g.5gb+me", or
// computes it from attributes, since some drivers report the GPU's name only.
func (r *reading) profile(parent nvml.Device, h gonvml.Device) string {
	if name := get(r, "nvmlDeviceGetName", h.GetName); name != nil {
		if _, profile, ok := strings.Cut(*name, " MIG "); ok {
			return profile
		}
	}
	if a := get(r, "nvmlDeviceGetAttributes_v2", h.GetAttributes); a != nil && parent.Memory != nil {
		return profileOf(*a, parent.Memory.Total)
	}
	return ""
}

// profileOf returns the profile as nvidia-smi prints it, such as "1g.10gb" or, for a part of a GPU
// instance, "1c.2g.20gb". The driver reports only megabytes; the profile's size is that share of
// the GPU, in eighths and rounded up, of its whole gigabytes.
func profileOf(a gonvml.DeviceAttributes, total uint64) string {
	if a.GpuInstanceSliceCount == 0 || total == 0 {
		return ""
	}
	const eighths, gigabyte = 8, 1 << 30
	share := math.Ceil(float64(a.MemorySizeMB)*(1<<20)/float64(total)*eighths) / eighths
	size := math.Round(share * math.Ceil(float64(total)/gigabyte))
	var name strings.Builder
	if a.ComputeInstanceSliceCount != 0 && a.ComputeInstanceSliceCount != a.GpuInstanceSliceCount {
		fmt.Fprintf(&name, "%dc.", a.ComputeInstanceSliceCount)
	}
	fmt.Fprintf(&name, "%dg.%.0fgb", a.GpuInstanceSliceCount, size)
	if a.GpuInstanceSliceCount == 1 && a.SharedOfaCount > 0 {
		name.WriteString("+me") // the one slice that has the media engines
	}
	return name.String()
}
