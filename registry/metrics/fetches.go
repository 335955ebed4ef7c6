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
	peers    prometheus.Counter
	shared   prometheus.Counter
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
		peers: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "model_fetch_peer_bytes_total",
			Help: "Part of the downloaded models that came from other hosts of the fleet, in bytes.",
		}),
		shared: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "model_shared_bytes_total",
			Help: "Files of the cache of models that other hosts were sent, in bytes.",
		}),
		failed: counter("model_fetch_failures_total", "Failed attempts to download a model, by reason.", "reason"),
	}
	for _, reason := range append(slices.Clone(reasons), otherReason) {
		f.failed.WithLabelValues(f.reasons.fold(reason))
	}
	return f
}

// Fetched counts a run of a download; reason is empty for a successful one. Of its bytes, so many
// came from other hosts of the fleet.
func (m *Metrics) Fetched(reason string, bytes, peers int64, took time.Duration) {
	if reason != "" {
		m.fetches.failed.WithLabelValues(m.fetches.reasons.fold(reason)).Inc()
		return
	}
	m.fetches.duration.Observe(took.Seconds())
	m.fetches.bytes.Add(float64(bytes))
	m.fetches.peers.Add(float64(peers))
}

// Shared counts bytes of the cache that another host was sent.
func (m *Metrics) Shared(bytes int64) { m.fetches.shared.Add(float64(bytes)) }
