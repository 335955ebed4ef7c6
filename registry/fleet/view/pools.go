package view

import (
	"cmp"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/record"
)

// Pools is the view: sorted by the names of hosts and pools, and without pools whose host is not
// there.
func (s *Set) Pools() wire.FleetPools {
	v := wire.FleetPools{Prefix: s.prefix, Revision: s.revision, Skipped: len(s.now.skipped),
		Truncated: s.now.truncated, Hosts: []wire.FleetHost{}, Pools: []wire.FleetPool{},
		Conflicts: []wire.FleetConflict{}}
	for _, m := range s.now.machines {
		if m.host != nil {
			v.Hosts = append(v.Hosts, *m.host)
			for id := range m.pools {
				v.Pools = append(v.Pools, *m.pool(id))
			}
		}
		for boot := range m.conflicts {
			v.Conflicts = append(v.Conflicts, *m.conflict(boot))
		}
	}
	slices.SortFunc(v.Hosts, func(a, b wire.FleetHost) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.MachineID, b.MachineID))
	})
	slices.SortFunc(v.Pools, func(a, b wire.FleetPool) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.MachineID, b.MachineID), cmp.Compare(a.ID, b.ID))
	})
	slices.SortFunc(v.Conflicts, func(a, b wire.FleetConflict) int {
		return cmp.Or(cmp.Compare(a.MachineID, b.MachineID), cmp.Compare(a.BootID, b.BootID))
	})
	return v
}

// Models are the models in the caches of the hosts that are there, sorted by their names and those
// of the hosts.
func (s *Set) Models() wire.FleetModels {
	v := wire.FleetModels{Prefix: s.prefix, Revision: s.revision, Truncated: s.now.shortened,
		Models: []wire.FleetModel{}}
	for _, m := range s.now.machines {
		if m.host == nil || m.models == nil {
			continue
		}
		v.Truncated = v.Truncated || m.models.Truncated
		for _, r := range m.models.Models {
			v.Models = append(v.Models, wire.FleetModel{Node: m.host.Name, MachineID: m.host.MachineID,
				Address: m.host.Address, Model: r.Model, Bytes: r.Bytes, Files: r.Files, Whole: r.Whole,
				Digests: list(r.Digests)})
		}
	}
	slices.SortFunc(v.Models, func(a, b wire.FleetModel) int {
		return cmp.Or(cmp.Compare(a.Model, b.Model), cmp.Compare(a.Node, b.Node), cmp.Compare(a.MachineID, b.MachineID))
	})
	return v
}

// Count is how many hosts, pools and conflicts are shown.
func (s *Set) Count() (hosts, pools, conflicts int) {
	for _, m := range s.now.machines {
		if m.host != nil {
			hosts, pools = hosts+1, pools+len(m.pools)
		}
		conflicts += len(m.conflicts)
	}
	return hosts, pools, conflicts
}

// Present is the view as changes of an empty one, for who begins to follow it.
func (s *Set) Present() []Change {
	var all []Change
	ids := make([]string, 0, len(s.now.machines))
	for id := range s.now.machines {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for _, id := range ids {
		all = append(all, differences(id, nil, s.now.machines[id])...)
	}
	return all
}

func hostOf(h record.Host) *wire.FleetHost {
	w := &wire.FleetHost{MachineID: h.MachineID, BootID: h.BootID, Name: h.Name, Address: h.Address,
		Version: h.Version, Driver: h.Driver, CPUs: h.CPUs, RAMBytes: h.RAMBytes, TTL: h.TTL, Started: h.Started,
		GPUs: make([]wire.FleetGPU, 0, len(h.GPUs))}
	for _, g := range h.GPUs {
		w.GPUs = append(w.GPUs, wire.FleetGPU(g))
	}
	return w
}

// poolOf is a pool without its host.
func poolOf(p record.Pool) *wire.FleetPool {
	w := &wire.FleetPool{ID: p.ID, Engine: p.Engine, EngineVersion: p.EngineVersion, ModelID: p.ModelID,
		Architecture: p.Architecture, Workload: p.Workload, Features: list(p.Features), DeviceMask: list(p.DeviceMask),
		VRAMTotal: p.VRAMTotal, State: p.State, Live: p.Live, Ready: p.Ready, Draining: p.Draining, Wanted: p.Wanted,
		SlotsTotal: p.SlotsTotal, SlotsFree: p.SlotsFree, ActiveLeases: p.ActiveLeases, RestartCount: p.RestartCount,
		LastError: p.LastError, Hint: p.Hint, Replicas: make([]wire.FleetReplica, 0, len(p.Replicas))}
	for _, r := range p.Replicas {
		r.DeviceMask = list(r.DeviceMask)
		w.Replicas = append(w.Replicas, wire.FleetReplica(r))
	}
	return w
}

// list has no null in JSON.
func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}
