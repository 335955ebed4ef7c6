package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/client"
)

// fleetAge is how old the fleet may be that callers get: any number of them cost one question to
// pool-fleet in that time.
const fleetAge = 900 * time.Millisecond

// fleetView is the fleet as pool-fleet reads it from etcd. The manager itself asks no other host.
type fleetView struct {
	client     *client.Client
	configured atomic.Bool // config.toml has an etcd

	mu    sync.Mutex
	kept  wire.FleetPools
	taken time.Time // zero: nothing is kept
}

func newFleetView(socket string) (*fleetView, error) {
	c, err := client.New(client.Options{Sockets: []string{socket}, OneShot: true, CorrelationID: "pool-managerd"})
	if err != nil {
		return nil, err
	}
	return &fleetView{client: c}, nil
}

// Pools implements api.Fleet.
func (f *fleetView) Pools(ctx context.Context) (wire.FleetPools, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.taken.IsZero() && time.Since(f.taken) < fleetAge {
		return f.kept, nil
	}
	f.kept, f.taken = wire.FleetPools{}, time.Time{}
	if err := ctx.Err(); err != nil { // it waited for others
		return wire.FleetPools{}, err
	}
	answer, err := f.client.GetFleetPools(ctx, client.GetFleetPoolsParams{})
	if err != nil {
		return wire.FleetPools{}, f.explain(err)
	}
	f.kept, f.taken = answer.Value, time.Now()
	return f.kept, nil
}

// explain is why there is no fleet, for who asked the manager.
func (f *fleetView) explain(err error) error {
	var refusal *client.Failure
	switch {
	case errors.As(err, &refusal):
		return registry.Fail(registry.CodeFleetUnavailable, refusal.Answer.Message, refusal.Answer.Hint)
	case !f.configured.Load():
		return registry.Fail(registry.CodeFleetNotConfigured,
			"this host reads no fleet: config.toml has no [etcd] endpoints",
			"Name the members of an etcd in [etcd] endpoints, then systemctl reload pool-managerd; fleet.md.")
	}
	return registry.Fail(registry.CodeFleetUnavailable, "pool-fleet, which reads etcd, does not answer: "+err.Error(),
		"systemctl status pool-fleet; journalctl -u pool-fleet")
}
