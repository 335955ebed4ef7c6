package record

import (
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
)

// textLimit bounds a text that an engine or a model's file may have made, in bytes: a store of a
// cluster is small.
const textLimit = 512

// HostOf is the record of a host, without what its publisher alone knows (Instance, TTL, Started).
func HostOf(h fleet.Host, d wire.DeviceList) Host {
	r := Host{Schema: Schema, MachineID: h.MachineID, BootID: h.BootID, Name: h.Name, Address: h.Address,
		Version: h.Version, Driver: bounded(d.Driver.Version), CPUs: h.CPUs, RAMBytes: h.RAMBytes, GPUs: []GPU{}}
	for _, g := range d.Devices {
		r.GPUs = append(r.GPUs, GPU{g.Index, bounded(g.Name), value(g.TotalBytes), g.ComputeCapability})
	}
	return r
}

// PoolOf is the record of a pool.
func PoolOf(p *wire.Pool) Pool {
	r := Pool{Schema: Schema, ID: p.ID, Engine: p.Engine, EngineVersion: text(p.EngineVersion),
		ModelID: text(p.ModelID), Architecture: text(p.Model.Architecture), Workload: text(p.Model.Workload),
		Features: list(p.Supports.Features), DeviceMask: list(p.DeviceMask), VRAMTotal: value(p.VRAMTotalBytes),
		State: p.State, Live: p.Live, Ready: p.Ready, Draining: p.Draining, Wanted: p.Wanted,
		SlotsTotal: p.SlotsTotal, SlotsFree: p.SlotsFree, ActiveLeases: p.ActiveLeases,
		RestartCount: p.RestartCount, LastError: text(p.LastError), Hint: text(p.Hint), Replicas: []Replica{}}
	for i := range p.Replicas {
		e := &p.Replicas[i]
		r.Replicas = append(r.Replicas, Replica{ID: e.ID, State: e.State, Ready: e.Ready, Endpoint: text(e.Endpoint),
			DeviceMask: list(e.DeviceMask), SlotsTotal: e.SlotsTotal, SlotsFree: e.SlotsFree,
			ActiveLeases: e.ActiveLeases})
	}
	return r
}

// Availability is a pool's record reduced to what decides whether requests go there: a change of it
// is published before others.
func (p Pool) Availability() string {
	var b strings.Builder
	b.WriteString(p.State)
	for _, is := range []bool{p.Live, p.Ready, p.Draining, p.Wanted} {
		if is {
			b.WriteByte('1')
		} else {
			b.WriteByte('0')
		}
	}
	for _, r := range p.Replicas {
		b.WriteString(" " + r.ID + " " + r.State + " " + r.Endpoint)
		if r.Ready {
			b.WriteString(" ready")
		}
	}
	return b.String()
}

// WithoutUse is a pool's record without what each request changes.
func (p Pool) WithoutUse() Pool {
	p.SlotsFree, p.ActiveLeases = 0, 0
	replicas := make([]Replica, len(p.Replicas))
	for i, r := range p.Replicas {
		r.SlotsFree, r.ActiveLeases = 0, 0
		replicas[i] = r
	}
	p.Replicas = replicas
	return p
}

func text(s *string) string { return bounded(value(s)) }

func value[T any](v *T) T {
	if v == nil {
		var none T
		return none
	}
	return *v
}

func bounded(s string) string {
	if len(s) <= textLimit {
		return s
	}
	return strings.ToValidUTF8(s[:textLimit], "") + "…"
}

// list has no null in JSON.
func list(l []string) []string {
	if l == nil {
		return []string{}
	}
	return l
}
