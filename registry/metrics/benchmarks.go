package metrics

import "github.com/prometheus/client_golang/prometheus"

// newBenchmarks counts measurements of engines by outcome, each from 0.
func newBenchmarks(outcomes []string) *prometheus.CounterVec {
	c := counter("benchmarks_total", "Measurements of engines by requests of the manager's own, by outcome.", "outcome")
	for _, o := range outcomes {
		c.WithLabelValues(o)
	}
	return c
}

// Measured counts a measurement of an engine; outcome is one of a closed list.
func (m *Metrics) Measured(outcome string) { m.benchmarks.WithLabelValues(outcome).Inc() }
