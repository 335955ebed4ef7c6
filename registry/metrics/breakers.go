package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// breakers counts opened breakers and restart storms.
type breakers struct {
	opened *prometheus.CounterVec
	storms *reasonCounter
}

func newBreakers() breakers {
	return breakers{
		opened: counter("circuit_breaker_open_total",
			"Times that a replica's circuit breaker opened after too many failures.", "pool_id"),
		storms: byReason("restart_storm_total", "Restart storms of an engine, by the class of most of its failures.",
			"reason", nil),
	}
}

// breakerLevel is a breaker's state as a number.
func breakerLevel(state string) float64 {
	switch state {
	case "open":
		return 1
	case "half-open":
		return 2
	}
	return 0
}

// Breaker counts an opened breaker of a replica.
func (m *Metrics) Breaker(p registry.Pool, state string) {
	if state == "open" {
		m.breakers.opened.WithLabelValues(m.perPool.pool(p.ID)).Inc()
	}
}

// Storm counts a restart storm, by the class of most of its failures.
func (m *Metrics) Storm(p registry.Pool, class string) {
	m.breakers.storms.add(m.perPool.pool(p.ID), class, 1)
}
