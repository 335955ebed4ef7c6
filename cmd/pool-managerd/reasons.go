package main

import (
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/metrics"
	"github.com/pool-managerd/pool-managerd/units/obtain"
	"github.com/pool-managerd/pool-managerd/units/probe"
	"github.com/pool-managerd/pool-managerd/units/restarts"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// countedReasons are the closed lists of the labels reason.
func countedReasons() metrics.Reasons {
	return metrics.Reasons{Leases: api.RejectionReasons(), Denials: api.DenialReasons(),
		Fetches:  obtain.Reasons(),
		Restarts: texts(restarts.Classes()), Probes: probe.Reasons(), Reloads: texts(rollout.Reasons())}
}

func texts[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, v := range list {
		out[i] = string(v)
	}
	return out
}
