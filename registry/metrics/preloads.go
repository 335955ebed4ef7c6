package metrics

import "github.com/prometheus/client_golang/prometheus"

// newPreloads counts preloads by outcome, each from 0, so that the first one is an increase.
func newPreloads(outcomes []string) *prometheus.CounterVec {
	c := counter("preload_outcomes_total", "Requests to preload a pool, by outcome.", "outcome")
	for _, o := range outcomes {
		c.WithLabelValues(o)
	}
	return c
}

// Preloaded counts a request to preload a pool; outcome is one of a closed list.
func (m *Metrics) Preloaded(outcome string) { m.preloads.WithLabelValues(outcome).Inc() }
