package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// The question who has a model, in front of a download. pool-fleet starts again with each reload,
// which is what new pools begin with, and has no socket for a second then.
const (
	peersWait  = 5 * time.Second // bounds it
	peersAgain = 250 * time.Millisecond
)

// peersWith are the managers of other hosts of the fleet that have a model in their caches. Where
// that is not known there are none, and the model comes from its source.
func (d *daemon) peersWith(ctx context.Context, ref modelref.Ref) []string {
	ctx, cancel := context.WithTimeout(ctx, peersWait)
	defer cancel()
	list, err := d.fleetModels(ctx)
	if err != nil {
		d.log.Info("no other host is asked for a model: "+err.Error(), "model_id", ref.String())
		return nil
	}
	self := ""
	if s := d.fleet.self.Load(); s != nil {
		self = *s
	}
	return addressesOf(list.Models, library.NameOf(ref.Directory()), self)
}

// fleetModels is which host has which model. While pool-fleet is not there, or has not read etcd
// yet, it is asked again.
func (d *daemon) fleetModels(ctx context.Context) (wire.FleetModels, error) {
	for {
		list, err := d.fleet.Models(ctx)
		var failure *registry.Failure
		if !errors.As(err, &failure) || failure.Code != registry.CodeFleetUnavailable {
			return list, err
		}
		select {
		case <-ctx.Done():
			return list, err
		case <-time.After(peersAgain):
		}
	}
}

// addressesOf are the addresses of the hosts that have a model: first of those that have all of it,
// and at random, so that one host does not serve all others.
func addressesOf(models []wire.FleetModel, name, self string) []string {
	var all []wire.FleetModel
	for _, m := range models {
		if m.Model == name && m.Address != "" && m.Address != self && len(m.Digests) > 0 {
			all = append(all, m)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	slices.SortStableFunc(all, func(a, b wire.FleetModel) int {
		switch {
		case a.Whole == b.Whole:
			return 0
		case a.Whole:
			return -1
		}
		return 1
	})
	addresses := make([]string, len(all))
	for i, m := range all {
		addresses[i] = m.Address
	}
	return addresses
}
