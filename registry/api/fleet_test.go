package api

import (
	"context"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// fleets is a fleet of one pool, or an error.
type fleets struct{ err error }

func (f *fleets) Pools(context.Context) (wire.FleetPools, error) {
	if f.err != nil {
		return wire.FleetPools{}, f.err
	}
	return wire.FleetPools{Prefix: "/pool-managerd", Revision: 7, Conflicts: []wire.FleetConflict{},
		Hosts: []wire.FleetHost{{MachineID: "m", Name: "gpu1", GPUs: []wire.FleetGPU{}}},
		Pools: []wire.FleetPool{{Node: "gpu1", MachineID: "m", ID: "llama3", State: "ready", Features: []string{},
			DeviceMask: []string{}, Replicas: []wire.FleetReplica{}}}}, nil
}

func (f *fleets) Models(context.Context) (wire.FleetModels, error) {
	return wire.FleetModels{Prefix: "/pool-managerd", Revision: 7, Models: []wire.FleetModel{{Node: "gpu1",
		MachineID: "m", Model: "hf:a/b", Bytes: 7, Files: 1, Whole: true,
		Digests: []string{"sha256:" + strings.Repeat("0a", 32)}}}}, f.err
}

// TestFleet: the list with its ETag, and why there is none.
func TestFleet(t *testing.T) {
	for _, list := range []string{"pools", "models"} {
		h := serve(t, Settings{}, units{})
		r := h.get("/v1/fleet/" + list)
		if r.status != 200 || r.header.Get("ETag") == "" || len(r.json[list].([]any)) != 1 {
			t.Errorf("%s: %d %v %s", list, r.status, r.header, r.body)
		}
		for code, status := range map[registry.Code]int{registry.CodeFleetNotConfigured: 409,
			registry.CodeFleetUnavailable: 503} {
			h.server.fleet = &fleets{registry.Fail(code, "m", "h")}
			r := h.get("/v1/fleet/" + list)
			if r.status != status || r.json["code"] != string(code) || r.json["hint"] != "h" ||
				r.json["retriable"] != (status == 503) {
				t.Errorf("%s: %d %s", list, r.status, r.body)
			}
		}
	}
}
