package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// drainBuckets are the bounds of drain_duration_ms, in milliseconds: from an idle engine to the
// longest generations.
var drainBuckets = []float64{100, 1000, 5000, 30000, 120000, 600000}

// drains measures the drains of replicas.
type drains struct {
	duration *prometheus.HistogramVec
	forced   *prometheus.CounterVec
}

func newDrains() drains {
	return drains{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "drain_duration_ms", Help: "Duration of a replica's drain, until its last request ended or its " +
				"deadline passed, in milliseconds.", Buckets: drainBuckets,
		}, []string{"pool_id"}),
		forced: counter("drain_forced_total",
			"Drains of a replica that reached their deadline with requests in progress.", "pool_id"),
	}
}

// Drained counts a completed drain of a replica; forced: it ended at its deadline.
func (m *Metrics) Drained(p registry.Pool, took time.Duration, forced bool) {
	id := m.perPool.pool(p.ID)
	m.drains.duration.WithLabelValues(id).Observe(float64(took) / float64(time.Millisecond))
	if forced {
		m.drains.forced.WithLabelValues(id).Inc()
	}
}
