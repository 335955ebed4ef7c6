package metrics

import "github.com/prometheus/client_golang/prometheus"

// apiCounts are the counters of the API's callers.
type apiCounts struct {
	crowded *prometheus.CounterVec
	denied  *prometheus.CounterVec
	kinds   vocabulary
	reasons vocabulary
}

func newAPICounts() apiCounts {
	return apiCounts{
		crowded: counter("api_connections_limited_total",
			"Connections of the API that were closed for another caller's or refused because too many were open, by "+
				"kind "+
				"(request, stream) and outcome (closed, refused).", "kind", "outcome"),
		denied: counter("api_requests_denied_total", "Requests of the API that were denied, by reason.", "reason"),
	}
}

// APICrowded counts a connection or stream that was closed or refused because too many are open.
func (m *Metrics) APICrowded(kind, outcome string) {
	m.api.crowded.WithLabelValues(m.api.kinds.fold(kind), m.api.kinds.fold(outcome)).Inc()
}

// APIDenied counts a denied request, by a reason of a closed list.
func (m *Metrics) APIDenied(reason string) {
	m.api.denied.WithLabelValues(m.api.reasons.fold(reason)).Inc()
}

// openConnections collects how many connections are open.
type openConnections func() (requests, streams int)

func openDesc() *prometheus.Desc {
	return prometheus.NewDesc("api_connections", "Open connections of the API, by kind (request, stream).",
		[]string{"kind"}, nil)
}

// Describe implements prometheus.Collector.
func (openConnections) Describe(ch chan<- *prometheus.Desc) { ch <- openDesc() }

// Collect implements prometheus.Collector.
func (o openConnections) Collect(ch chan<- prometheus.Metric) {
	requests, streams := o()
	ch <- prometheus.MustNewConstMetric(openDesc(), prometheus.GaugeValue, float64(requests), "request")
	ch <- prometheus.MustNewConstMetric(openDesc(), prometheus.GaugeValue, float64(streams), "stream")
}
