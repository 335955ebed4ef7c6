package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// reloadBuckets are the bounds of reload_duration_ms, in milliseconds: a small model from the page
// cache up to a large one from a slow disk.
var reloadBuckets = []float64{1000, 5000, 15000, 60000, 300000, 1800000}

// reloads measures the reloads of pools.
type reloads struct {
	duration *prometheus.HistogramVec
	done     *prometheus.CounterVec
	failed   *reasonCounter
}

func newReloads(reasons []string) reloads {
	return reloads{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "reload_duration_ms", Help: "Duration of a reload of a pool, until it was done or rolled back, in " +
				"milliseconds.", Buckets: reloadBuckets,
		}, []string{"pool_id"}),
		done: counter("reload_success_total", "Successful reloads of a pool.", "pool_id"),
		failed: byReason("reload_failure_total", "Reloads of a pool that were rolled back, by reason.", "reason",
			reasons),
	}
}

// Reloaded counts a completed reload; reason is empty for a successful one.
func (m *Metrics) Reloaded(p registry.Pool, took time.Duration, reason string) {
	id := m.perPool.pool(p.ID)
	m.reloads.duration.WithLabelValues(id).Observe(float64(took) / float64(time.Millisecond))
	if reason == "" {
		m.reloads.done.WithLabelValues(id).Inc()
		return
	}
	m.reloads.failed.add(id, reason, 1)
}
