package metrics

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// collectReplicas gives each replica a series on each device that it may use or does use.
func (c *devices) collectReplicas(s *registry.Snapshot, all []deviceSeries, fresh bool,
	gauge func(*prometheus.Desc, float64, ...string)) {
	versions := vocabulary{limit: maxVersions} // of this scrape, so that versions of removed pools do not count
	shown, omitted := 0, 0
	for _, p := range s.Pools[:min(len(s.Pools), maxPools)] {
		for i := range p.Replicas {
			r := &p.Replicas[i]
			on := devicesOf(p, r, all)
			if len(on) == 0 {
				continue
			}
			if shown == maxReplicas || !slices.Contains(c.engines, p.Engine) {
				omitted++ // only an orphan can have an engine unknown to this version
				continue
			}
			shown++
			version := versions.fold(r.EngineVersion)
			for _, d := range on {
				if !fresh || !d.health.Answers() {
					continue
				}
				labels := []string{p.Engine, version, p.ID, r.ID, d.label}
				if d.utilization != nil {
					gauge(c.utilization, float64(*d.utilization), labels...)
				}
				if used, known := usedBy(d.processes, p.ID, r); known {
					gauge(c.used, float64(used), labels...)
				}
			}
		}
	}
	gauge(c.omitted, float64(omitted))
}

// devicesOf lists the devices of a replica's mask, and other devices on which it uses memory, which
// an administrator should see.
func devicesOf(p *registry.Pool, r *registry.Replica, all []deviceSeries) []*deviceSeries {
	var out []*deviceSeries
	for i := range all {
		d := &all[i]
		masked := slices.Contains(r.DeviceMask, d.label) ||
			slices.ContainsFunc(p.Devices, func(of registry.PoolDevice) bool {
				return of.UUID == d.label && slices.Contains(r.DeviceMask, of.ID) // not resolved yet
			})
		held := slices.ContainsFunc(d.processes, func(of registry.GPUProcess) bool {
			return of.Pool == p.ID && of.Replica == r.ID
		})
		if masked || held {
			out = append(out, d)
		}
	}
	return out
}

// usedBy sums the memory in use by a replica's processes. A replica without a process uses none. If
// its process is not listed, the value is unknown: it may not use memory yet, or the driver lists
// no processes.
func usedBy(processes []registry.GPUProcess, pool string, r *registry.Replica) (bytes uint64, known bool) {
	known = r.PID == 0
	for _, of := range processes {
		if of.Pool != pool || of.Replica != r.ID {
			continue
		}
		if of.Used == nil {
			return 0, false
		}
		bytes, known = bytes+*of.Used, true
	}
	return bytes, known
}
