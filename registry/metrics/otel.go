package metrics

import (
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pool-managerd/pool-managerd/registry"
)

// otelNames are what engines count under the names of OpenTelemetry's conventions for generative
// AI, as its exporters write them for Prometheus. Only figures that mean the same are among them:
// the conventions have none for a queue or a KV cache, and engines measure no time per token.
type otelNames struct {
	firstToken latencyDesc // in seconds
	tokens     *prometheus.Desc
}

func newOTelNames(bounds []float64) *otelNames {
	// gen_ai.operation.name is absent: engines do not count by it.
	of := []string{"gen_ai_provider_name", "gen_ai_request_model", "pool_id"}
	return &otelNames{
		firstToken: latencyDesc{prometheus.NewDesc("gen_ai_server_time_to_first_token_seconds",
			"Time until the first token of a request, as the engines of the pool measure it, in seconds.", of, nil),
			bounds},
		tokens: prometheus.NewDesc("gen_ai_client_token_usage",
			"Tokens of requests, by type (input, output): their sum, and the number of requests that had a first "+
				"token.",
			append(of, "gen_ai_token_type"), nil),
	}
}

// generated is what the engines of a pool have counted.
type generated struct {
	in, out    *uint64
	firstToken *registry.Latency
}

// add takes in what a replica has counted.
func (g *generated) add(w *worked, r *registry.Replica) {
	if w != nil && w.version == r.EngineVersion {
		g.in, g.out = grown(g.in, w.in), grown(g.out, w.out)
	}
}

// collect sends the series of a pool. The number of requests is that of the first tokens, so that
// an engine that does not measure those has neither.
func (o *otelNames) collect(ch chan<- prometheus.Metric, p *registry.Pool, g generated) {
	if g.firstToken == nil {
		return
	}
	labels := []string{p.Engine, strings.ToValidUTF8(p.ModelID, "?"), p.ID}
	buckets := make(map[float64]uint64, len(o.firstToken.bounds))
	for i, bound := range o.firstToken.bounds {
		buckets[bound/1000] = g.firstToken.Buckets[i]
	}
	ch <- prometheus.MustNewConstHistogram(o.firstToken.Desc, g.firstToken.Count, g.firstToken.SumMS/1000, buckets,
		labels...)
	for _, t := range []struct {
		name  string
		count *uint64
	}{{"input", g.in}, {"output", g.out}} {
		if t.count != nil {
			ch <- prometheus.MustNewConstSummary(o.tokens, g.firstToken.Count, float64(*t.count), nil,
				append(labels[:len(labels):len(labels)], t.name)...)
		}
	}
}
