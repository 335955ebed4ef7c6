package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// newBackoff has the delays of the default backoff between its bounds: 1 s to 60 s, and longer ones
// of drivers.
func newBackoff() *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "backoff_delay_seconds", Buckets: []float64{1, 5, 15, 60, 300},
		Help: "Delay of a restart after a failed run, in seconds.",
	}, []string{"pool_id"})
}

// newLoop measures the one goroutine that owns all pools: while it takes a turn, no pool is decided
// on and no probe counts.
func newLoop() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "pool_managerd_loop_seconds", Buckets: []float64{0.0001, 0.001, 0.01, 0.1, 0.5, 1, 5},
		Help: "Duration of a turn of the manager's loop, in which it takes all that was queued, in seconds.",
	})
}

// Turned measures a turn of the manager's loop.
func (m *Metrics) Turned(took time.Duration) { m.loop.Observe(took.Seconds()) }
