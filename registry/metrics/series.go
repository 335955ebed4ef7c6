package metrics

import (
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/pool-managerd/pool-managerd/registry"
)

// series is one value of a scrape. Its labels, sorted by name, are shared with others of the same
// scrape: the constant metrics of the client library have labels of their own, which were most of
// the time and memory of a scrape of 250 pools.
type series struct {
	desc    *prometheus.Desc
	counter bool
	value   float64
	labels  []*dto.LabelPair
}

// pair returns a label.
func pair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// Desc implements prometheus.Metric.
func (s *series) Desc() *prometheus.Desc { return s.desc }

// Write implements prometheus.Metric.
func (s *series) Write(out *dto.Metric) error {
	out.Label = s.labels
	if s.counter {
		out.Counter = &dto.Counter{Value: &s.value}
	} else {
		out.Gauge = &dto.Gauge{Value: &s.value}
	}
	return nil
}

// histogram is a histogram of a scrape, with labels as series has them.
type histogram struct {
	latencyDesc
	registry.Latency // its buckets are cumulative
	labels           []*dto.LabelPair
}

// Desc implements prometheus.Metric.
func (h *histogram) Desc() *prometheus.Desc { return h.latencyDesc.Desc }

// Write implements prometheus.Metric.
func (h *histogram) Write(out *dto.Metric) error {
	buckets := make([]dto.Bucket, len(h.bounds))
	all := make([]*dto.Bucket, len(h.bounds))
	for i := range h.bounds {
		buckets[i].UpperBound, buckets[i].CumulativeCount = &h.bounds[i], &h.Buckets[i]
		all[i] = &buckets[i]
	}
	out.Label = h.labels
	out.Histogram = &dto.Histogram{SampleCount: &h.Count, SampleSum: &h.SumMS, Bucket: all}
	return nil
}
