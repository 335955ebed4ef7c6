package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// handoffWait is how long the hand-off file of a pool that is ready may take: it is written beside
// everything else, and usually within milliseconds.
const (
	handoffWait  = 5 * time.Second
	handoffPause = 10 * time.Millisecond
)

// Preload implements api.Operator.
func (o operator) Preload(ctx context.Context, id string, ask api.PreloadRequest) (wire.Preloaded, error) {
	p := ask.Prepared
	err := o.super.Preload(ctx, id, supervise.PreloadRequest{Within: ask.Within, By: ask.By, Ask: pool.Preload{
		Engine: p.Engine, Binary: p.BinaryPath, Flags: p.Flags, Host: p.Host, Port: p.Port, Model: p.ModelPath,
		Version: p.EngineVersion, Devices: p.DeviceMask,
	}})
	if err != nil {
		return wire.Preloaded{}, err
	}
	return o.handedOff(ctx, id)
}

// Unload implements api.Operator.
func (o operator) Unload(ctx context.Context, id, by string) error {
	return known(id, o.super.Unload(ctx, id, by))
}

// handedOff waits for the hand-off file, which the caller reads next.
func (o operator) handedOff(ctx context.Context, id string) (wire.Preloaded, error) {
	replica := pool.Replica{Pool: id}
	path := filepath.Join(o.handoff, replica.FileStem()+".json")
	for until := time.Now().Add(handoffWait); ; {
		is, found := o.registry.Find(id)
		if _, err := os.Stat(path); err == nil && found && is.Ready && len(is.Replicas) > 0 {
			return wire.Preloaded{PoolID: id, PID: is.Replicas[0].PID, HandoffPath: path}, nil
		}
		if time.Now().After(until) {
			return wire.Preloaded{}, notHandedOff(id, path, is)
		}
		select {
		case <-ctx.Done():
			return wire.Preloaded{}, ctx.Err()
		case <-time.After(handoffPause):
		}
	}
}

// notHandedOff is why a pool that was ready has no hand-off file.
func notHandedOff(id, path string, is *registry.Pool) *registry.Failure {
	const hint = "Send the same request again: it is answered once the pool is ready."
	if is != nil && is.LastError != nil {
		return registry.Fail(is.LastError.Code, fmt.Sprintf("pool %s was ready and no longer is: %s", id,
			is.LastError.Message), hint)
	}
	return registry.Fail(registry.CodeStateNotSaved, fmt.Sprintf("the hand-off file %s is not written", path), hint)
}
