package metrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// breakers counts opened breakers and restart storms.
type breakers struct {
	opened  prometheus.Counter
	storms  *prometheus.CounterVec
	reasons vocabulary
}

func newBreakers() breakers {
	return breakers{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "circuit_breaker_open_total",
			Help: "Times that a replica's circuit breaker opened after too many failures.",
		}),
		storms: counter("restart_storm_total", "Restart storms of an engine, by the class of most of its failures.",
			"reason"),
	}
}

// breakerLevel is a breaker's state as a number.
func breakerLevel(state string) float64 {
	switch state {
	case "half-open":
		return 1
	case "open":
		return 2
	}
	return 0
}

// Breaker counts an opened breaker of a replica.
func (m *Metrics) Breaker(_ registry.Pool, state string) {
	if state == "open" {
		m.breakers.opened.Inc()
	}
}

// Storm counts a restart storm, by the class of most of its failures.
func (m *Metrics) Storm(_ registry.Pool, class string) {
	m.breakers.storms.WithLabelValues(m.breakers.reasons.fold(class)).Inc()
}
