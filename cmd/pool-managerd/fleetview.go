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
	configured atomic.Bool              // config.toml has an etcd
	self       atomic.Pointer[string]   // address of this host; nil: none yet
	places     atomic.Pointer[[]string] // where this host is to be published; nil: nowhere yet

	pools  kept[wire.FleetPools]
	models kept[wire.FleetModels]
}

// kept is an answer of pool-fleet.
type kept[T any] struct {
	mu    sync.Mutex
	value T
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
	return ask(ctx, f, &f.pools, func(ctx context.Context) (client.Answer[wire.FleetPools], error) {
		return f.client.GetFleetPools(ctx, client.GetFleetPoolsParams{})
	})
}

// Models implements api.Fleet.
func (f *fleetView) Models(ctx context.Context) (wire.FleetModels, error) {
	return ask(ctx, f, &f.models, func(ctx context.Context) (client.Answer[wire.FleetModels], error) {
		return f.client.GetFleetModels(ctx, client.GetFleetModelsParams{})
	})
}

// ask returns what is kept, or asks pool-fleet where that is too old.
func ask[T any](ctx context.Context, f *fleetView, k *kept[T],
	get func(context.Context) (client.Answer[T], error)) (none T, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.taken.IsZero() && time.Since(k.taken) < fleetAge {
		return k.value, nil
	}
	k.value, k.taken = none, time.Time{}
	if err := ctx.Err(); err != nil { // it waited for others
		return none, err
	}
	answer, err := get(ctx)
	if err != nil {
		return none, f.explain(err)
	}
	k.value, k.taken = answer.Value, time.Now()
	return k.value, nil
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
