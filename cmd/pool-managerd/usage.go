package main

import (
	"path"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// engineUsage reads the memory of an engine from its cgroup, false if it has none.
func engineUsage(unit string) (metrics.Usage, bool) { return usageBelow(cgroups.Root, unit) }

// engineMemory is of engineUsage what GET /v1/usage shows.
func engineMemory(unit string) wire.Memory {
	used, _ := engineUsage(unit)
	return wire.Memory{Bytes: used.MemoryBytes, Pressure: used.Pressure}
}

// engineActivity reads what an engine has used so far, false if it has no cgroup.
func engineActivity(unit string) (supervise.Activity, bool) { return activityBelow(cgroups.Root, unit) }

// activityBelow reads it below the root of a cgroup tree, as usageBelow does.
func activityBelow(root, unit string) (supervise.Activity, bool) {
	read, err := cgroups.ReadActivity(root, path.Join("/pool.slice", pool.Slice, unit))
	if err != nil {
		return supervise.Activity{}, false
	}
	return supervise.Activity{CPU: read.CPU, IOBytes: read.IOBytes, Frozen: read.Frozen}, true
}

// usageBelow reads it below the root of a cgroup tree. A dash in a slice's name nests:
// pool-engines.slice is in pool.slice.
func usageBelow(root, unit string) (metrics.Usage, bool) {
	read, err := cgroups.ReadUsage(root, path.Join("/pool.slice", pool.Slice, unit))
	if err != nil {
		return metrics.Usage{}, false
	}
	used := metrics.Usage{Cgroup: read.ID}
	if m := read.Memory; m != nil {
		used.MemoryBytes, used.OOMKills = &m.CurrentBytes, m.OOMKills
	}
	if p := read.Pressure; p != nil {
		ratio := p.Some.Avg10 / 100
		used.Pressure = &ratio
	}
	return used, true
}
