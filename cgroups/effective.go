package cgroups

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Resources is the inverse of Properties: what PID 1 says of a unit's limits, in the runtime
// specification's words. A property that is missing, has another type or stands for "no limit" leaves
// its field out, so that Properties(Resources(p)) has the same effect as p.
func Resources(props map[string]any) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	unified := map[string]string{}
	if v, ok := finite(props, MemoryMax); ok {
		r.Memory = &specs.LinuxMemory{Limit: &v}
	}
	if v, ok := finite(props, MemoryLow); ok && v > 0 {
		if r.Memory == nil {
			r.Memory = &specs.LinuxMemory{}
		}
		r.Memory.Reservation = &v
	}
	if v, ok := finite(props, MemorySwapMax); ok && r.Memory != nil && r.Memory.Limit != nil {
		// The specification counts memory and swap together, in a signed number.
		if both := v + *r.Memory.Limit; both >= v {
			r.Memory.Swap = &both
		}
	}
	cpuResources(r, props)
	for name, file := range map[string]string{MemoryHigh: fileMemoryHigh, CPUWeight: fileCPUWeight, IOWeight: fileIOWeight} {
		if v, ok := finite(props, name); ok {
			unified[file] = strconv.FormatInt(v, 10)
		}
	}
	if v, ok := finite(props, TasksMax); ok {
		r.Pids = &specs.LinuxPids{Limit: &v}
	}
	if len(unified) > 0 {
		r.Unified = unified
	}
	return r
}

func cpuResources(r *specs.LinuxResources, props map[string]any) {
	c := specs.LinuxCPU{Cpus: maskList(props, AllowedCPUs), Mems: maskList(props, AllowedMemoryNodes)}
	if v, ok := finite(props, CPUQuotaPerSecUSec); ok {
		period := uint64(1_000_000)
		c.Quota, c.Period = &v, &period
	}
	if c.Cpus != "" || c.Mems != "" || c.Quota != nil {
		r.CPU = &c
	}
}

// finite reads a uint64 property that is neither missing nor "no limit".
func finite(props map[string]any, name string) (int64, bool) {
	v, ok := props[name].(uint64)
	if !ok || v > 1<<63-1 {
		return 0, false
	}
	return int64(v), true
}

func maskList(props map[string]any, name string) string {
	mask, ok := props[name].([]byte)
	if !ok {
		return ""
	}
	return List(mask)
}
