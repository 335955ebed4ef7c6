// Package cgroups handles resource limits and resource use of the kernel's cgroup v2:
// limits as the runtime specification's LinuxResources, turned into unit properties, and the memory
// that a cgroup uses, read from its files.
//
// It owns the arithmetic between the three vocabularies (runtime-spec, systemd properties, cgroup
// files). PID 1 owns every cgroup: this package never writes one. It must not know pools or
// engines.
package cgroups

import (
	"strconv"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Limits are the limits of one service in plain values. Zero leaves a limit out.
type Limits struct {
	MemoryMaxBytes  uint64
	MemoryHighBytes uint64
	CPUQuotaPercent int    // of one CPU: 250 is two and a half
	CPUs            string // a list as in cpuset(7): "0-3,8"
	CPUWeight       uint64 // 1..10000
	IOWeight        uint64 // 1..10000
	TasksMax        uint64
}

// quotaPeriodUSec is the period that a percentage is written against: 100 ms, the kernel's default.
const quotaPeriodUSec = 100_000

// Keys of LinuxResources.Unified, the cgroup v2 file names, for what the older fields cannot say.
const (
	fileMemoryHigh = "memory.high"
	fileCPUWeight  = "cpu.weight"
	fileIOWeight   = "io.weight"
)

// FromLimits converts plain limits to the runtime specification's.
func FromLimits(l Limits) *specs.LinuxResources {
	r := &specs.LinuxResources{}
	unified := map[string]string{}
	if l.MemoryMaxBytes > 0 {
		limit := int64(min(l.MemoryMaxBytes, 1<<63-1))
		r.Memory = &specs.LinuxMemory{Limit: &limit}
	}
	if l.MemoryHighBytes > 0 {
		unified[fileMemoryHigh] = strconv.FormatUint(l.MemoryHighBytes, 10)
	}
	if l.CPUQuotaPercent > 0 || l.CPUs != "" {
		r.CPU = &specs.LinuxCPU{Cpus: l.CPUs}
	}
	if l.CPUQuotaPercent > 0 {
		quota, period := int64(l.CPUQuotaPercent)*quotaPeriodUSec/100, uint64(quotaPeriodUSec)
		r.CPU.Quota, r.CPU.Period = &quota, &period
	}
	if l.CPUWeight > 0 {
		unified[fileCPUWeight] = strconv.FormatUint(l.CPUWeight, 10)
	}
	if l.IOWeight > 0 {
		unified[fileIOWeight] = strconv.FormatUint(l.IOWeight, 10)
	}
	if l.TasksMax > 0 {
		limit := int64(min(l.TasksMax, 1<<63-1))
		r.Pids = &specs.LinuxPids{Limit: &limit}
	}
	if len(unified) > 0 {
		r.Unified = unified
	}
	return r
}
