package main

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
)

// fleetScrape bounds the question to pool-fleet at each scrape: one that hangs counts as down.
const fleetScrape = 300 * time.Millisecond

// placesOf are where settings have this host published.
func placesOf(f hostconfig.Fleet) (places []string) {
	if len(f.Etcd.Endpoints) > 0 {
		places = append(places, "etcd")
	}
	if f.Orchestrator.URL != "" {
		places = append(places, "orchestrator")
	}
	return places
}

// figures are how publishing this host goes; false: it is published nowhere.
func (f *fleetView) figures() (metrics.Fleet, bool) {
	places := f.places.Load()
	if places == nil || len(*places) == 0 {
		return metrics.Fleet{}, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), fleetScrape)
	defer cancel()
	answer, err := f.client.GetFleetStatus(ctx)
	if err != nil {
		var out metrics.Fleet
		for _, to := range *places {
			out.Places = append(out.Places, metrics.Place{To: to})
		}
		return out, true
	}
	out := metrics.Fleet{Up: true}
	for _, p := range answer.Value.Publishing {
		out.Places = append(out.Places, metrics.Place{To: p.To, Published: p.Published, Conflict: p.Conflict,
			Since: float64(p.SinceMS) / 1000, Last: float64(p.LastMS) / 1000, Failures: p.Failures, Writes: p.Writes})
	}
	if r := answer.Value.Reading; r.State != "idle" {
		out.Read = &metrics.Read{Good: r.State == "reading", Hosts: r.Hosts, Pools: r.Pools}
	}
	return out, true
}
