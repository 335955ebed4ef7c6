package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// peersWait bounds the question who has a model, in front of a download.
const peersWait = 3 * time.Second

// peersWith are the managers of other hosts of the fleet that have a model in their caches. Where
// that is not known there are none, and the model comes from its source.
func (d *daemon) peersWith(ctx context.Context, ref modelref.Ref) []string {
	ctx, cancel := context.WithTimeout(ctx, peersWait)
	defer cancel()
	list, err := d.fleet.Models(ctx)
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
