package metrics

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// fetchBuckets are the bounds of model_fetch_duration_seconds, in seconds: a small file of a mirror
// on the same network up to a large model over a slow line.
var fetchBuckets = []float64{1, 10, 60, 300, 900, 3600, 14400, 43200}

// fetches measures the downloads of models.
type fetches struct {
	duration prometheus.Histogram
	bytes    prometheus.Counter
	failed   *prometheus.CounterVec
	reasons  vocabulary
}

// newFetches counts failures by reason, each from 0, so that the first one is an increase. Of too
// many reasons, and of any that is not in the list then, the rest is counted as other.
func newFetches(reasons []string) *fetches {
	f := &fetches{
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "model_fetch_duration_seconds", Buckets: fetchBuckets,
			Help: "Duration of a download of a model that was successful, in seconds.",
		}),
		bytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "model_fetch_bytes_total", Help: "Size of the models that were downloaded, in bytes.",
		}),
		failed: counter("model_fetch_failures_total", "Failed attempts to download a model, by reason.", "reason"),
	}
	for _, reason := range append(slices.Clone(reasons), otherReason) {
		f.failed.WithLabelValues(f.reasons.fold(reason))
	}
	return f
}

// Fetched counts a run of a download; reason is empty for a successful one.
func (m *Metrics) Fetched(reason string, bytes int64, took time.Duration) {
	if reason != "" {
		m.fetches.failed.WithLabelValues(m.fetches.reasons.fold(reason)).Inc()
		return
	}
	m.fetches.duration.Observe(took.Seconds())
	m.fetches.bytes.Add(float64(bytes))
}
