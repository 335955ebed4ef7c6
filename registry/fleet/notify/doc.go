// Package notify reports this host to an orchestrator by HTTP: it registers the host, sends
// heartbeats, at once where a pool became ready or not, and takes the host back at the end.
//
// It owns the protocol, the pace and what follows a failure. It must not know where a state comes
// from. Nothing waits for it: an orchestrator that is away costs this host an attempt now and then.
//
// Source of the protocol: orchestratord's service registry, paths /v2/nodes/register,
// /v2/nodes/{id}/heartbeat and /v2/nodes/{id}. A node without one for 30 s is gone there.
package notify

import (
	"net/url"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet"
)

// registration is the body of POST /v2/nodes/register.
type registration struct {
	NodeID       string       `json:"node_id"`
	MachineID    string       `json:"machine_id"`
	Address      string       `json:"address"` // of the host's API
	Pools        []string     `json:"pools"`
	Capabilities capabilities `json:"capabilities"`
	Version      string       `json:"version"`
}

type capabilities struct {
	GPUs     []gpu  `json:"gpus"`
	CPUCores int    `json:"cpu_cores"`
	RAMTotal uint64 `json:"ram_total_bytes"`
}

type gpu struct {
	DeviceID          int    `json:"device_id"` // its index
	Name              string `json:"name"`
	VRAMTotal         uint64 `json:"vram_total_bytes"`
	ComputeCapability string `json:"compute_capability,omitempty"`
}

// heartbeat is the body of POST /v2/nodes/{id}/heartbeat.
type heartbeat struct {
	Timestamp string `json:"timestamp"` // RFC 3339
	Pools     []pool `json:"pools"`
}

type pool struct {
	PoolID     string `json:"pool_id"`
	Ready      bool   `json:"ready"`
	Draining   bool   `json:"draining"`
	SlotsFree  int    `json:"slots_free"`
	SlotsTotal int    `json:"slots_total"`
	VRAMFree   uint64 `json:"vram_free_bytes"` // 0 where it is unknown too: the protocol has no null for it
	Engine     string `json:"engine"`
}

// registrationOf is what a host registers with. A GPU whose memory is unknown is left out: it
// cannot be placed on.
func registrationOf(node string, h fleet.Host, s fleet.State) registration {
	r := registration{NodeID: node, MachineID: h.MachineID, Address: h.Address, Pools: []string{}, Version: h.Version,
		Capabilities: capabilities{GPUs: []gpu{}, CPUCores: h.CPUs, RAMTotal: h.RAMBytes}}
	for i := range s.Pools {
		r.Pools = append(r.Pools, s.Pools[i].ID)
	}
	for _, d := range s.Devices.Devices {
		if d.TotalBytes == nil {
			continue
		}
		r.Capabilities.GPUs = append(r.Capabilities.GPUs, gpu{d.Index, d.Name, *d.TotalBytes, d.ComputeCapability})
	}
	return r
}

func heartbeatOf(s fleet.State, now time.Time) heartbeat {
	h := heartbeat{Timestamp: now.UTC().Format(time.RFC3339Nano), Pools: []pool{}}
	for i := range s.Pools {
		p := &s.Pools[i]
		h.Pools = append(h.Pools, pool{p.ID, p.Ready, p.Draining, p.SlotsFree, p.SlotsTotal, freeOf(p), p.Engine})
	}
	return h
}

func freeOf(p *wire.Pool) uint64 {
	if p.VRAMFreeBytes == nil {
		return 0
	}
	return *p.VRAMFreeBytes
}

// availability is what a heartbeat is sent for at once: which pools there are, and which of them
// take requests.
func availability(s fleet.State) []pool {
	list := make([]pool, len(s.Pools))
	for i := range s.Pools {
		list[i] = pool{PoolID: s.Pools[i].ID, Ready: s.Pools[i].Ready, Draining: s.Pools[i].Draining}
	}
	return list
}

// sameRegistration reports whether nothing changed that a new registration is sent for.
func sameRegistration(a, b registration) bool {
	return slices.Equal(a.Pools, b.Pools) && slices.Equal(a.Capabilities.GPUs, b.Capabilities.GPUs)
}

// nodePath is the path of this node at the orchestrator.
func nodePath(node string) string { return "/v2/nodes/" + url.PathEscape(node) }
