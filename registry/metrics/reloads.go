package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// reloadBuckets are the bounds of reload_duration_ms, in milliseconds: a small model from the page
// cache up to a large one from a slow disk.
var reloadBuckets = []float64{1000, 5000, 15000, 30000, 60000, 120000, 300000, 600000, 1800000}

// reloads measures the reloads of pools.
type reloads struct {
	duration prometheus.Histogram
	done     prometheus.Counter
	failed   *prometheus.CounterVec
	reasons  vocabulary
}

func newReloads() reloads {
	return reloads{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "reload_duration_ms", Help: "Duration of a reload of a pool, until it was done or rolled back, in " +
				"milliseconds.", Buckets: reloadBuckets,
		}),
		done: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "reload_success_total", Help: "Successful reloads of a pool.",
		}),
		failed: counter("reload_failure_total", "Reloads of a pool that were rolled back, by reason.", "reason"),
	}
}

// Reloaded counts a completed reload; reason is empty for a successful one.
func (m *Metrics) Reloaded(_ registry.Pool, took time.Duration, reason string) {
	m.reloads.duration.Observe(float64(took) / float64(time.Millisecond))
	if reason == "" {
		m.reloads.done.Inc()
		return
	}
	m.reloads.failed.WithLabelValues(m.reloads.reasons.fold(reason)).Inc()
}
