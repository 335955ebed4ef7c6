package metrics

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

const pageHead = `<!-- Written by go test ./registry/metrics -update; do not edit. -->
# Metrics

` + "`GET /metrics`" + `, with the metrics of the Go runtime and of the process. A series ends with its pool or its GPU. What a GPU does not report has
no series, rather than a 0.

Facts about GPUs that are older than 30 seconds, and those of a GPU whose health is ` + "`lost` or `unknown`" +
	`, give no ` + "`gpu_utilization`, `vram_used_bytes`" + `
and ` + "`vram_free_bytes`" + `: a repeated figure would show an idle GPU. ` + "`gpu_facts_age_seconds`" +
	` is their age. The label ` + "`device`" + ` is the full
UUID of a GPU or MIG partition. A GPU in MIG mode has its partitions in ` + "`vram_total_bytes` and `vram_free_bytes`" +
	` and not itself, so that a sum counts no
memory twice.

At most 256 pools have series. What is counted for pools beyond that is in the series whose ` + "`pool_id`" +
	` is empty.

Counters begin with 0 for each known value of their labels, so that ` + "`rate()`" + ` sees the first that is counted: with the pool those that have
` + "`pool_id`" + ` alone, ` + "`restart_scheduled_total`, `health_probe_failures_total` and `reload_failure_total`" + `; with the manager those of leases, of denied requests,
of limited connections and of readiness. The others by reason begin with their first count: a dozen series more of each pool would be 0 for ever. On a host
with more than 128 pools all series of a pool by reason do, which keeps a scrape of 250 pools of an engine that measures latencies below 1.5 MiB (1.3 MiB; with gzip, which Prometheus asks for,
55 kB).

What engines count of their work is read from their own endpoints with health probes, never by a scrape: with each probe while an engine
works, else with each sixth. The label ` + "`priority`" + ` is always ` + "`any`" + `: no engine counts by it.

| metric | llama-server | vLLM | SGLang | TensorRT-LLM | TGI |
| --- | --- | --- | --- | --- | --- |
| ` + "`tokens_in_total`, `tokens_out_total`" + ` | when a request ends | yes | when a request ends | yes | when a request ends |
| ` + "`queue_depth`" + ` | yes | yes | yes | yes | yes |
| ` + "`requests_in_progress`" + ` | yes | yes | yes, some seconds old | yes | yes |
| ` + "`tokens_in_flight`" + ` | yes | by the size of its cache | yes | no | no |
| ` + "`kv_cache_usage_ratio`" + ` | builds before summer 2025 | yes | yes | yes | no |
| ` + "`latency_first_token_ms`" + ` | no | yes | yes | yes | no |
| ` + "`latency_decode_ms`" + ` | no | yes | no | yes | no |

TensorRT-LLM publishes them where ` + "`return_perf_metrics: true`" + ` is in the file of ` + "`--config`" + `; Triton and other programs do not. What an engine
does not publish has no series. Engines have other buckets than these metrics: a request counts in the bucket of which it is certain, and
so may be shown slower than it was by up to one bucket of its engine (vLLM: 0.1, 0.25, 0.5, 0.75, 1, 2.5 s), never faster. Token counters go
on over restarts of an engine. They start from 0 with the manager, with a replica and with another version of the engine, and what an
engine counted while no manager ran is in none of them. An engine whose counters are impossible (negative, not a number, faster than
16 million tokens a second) has none, and ` + "`engine_answers_refused_total` with `subject=\"metrics\"`" + ` counts it.

| metric | kind | labels | what it is |
| --- | --- | --- | --- |
`

// TestReference prints the metrics of a host with everything into the docs.
func TestReference(t *testing.T) {
	reg, m := onGPUs(0)
	reg.Hint(func(string, *registry.Replica) *registry.Perf {
		return &registry.Perf{TokensPerS: 41.7, FirstTokenMS: 183}
	})
	reg.Put(serving("gemma2", 4, 3))
	m.DriverReset("GPU-1", "xid")
	m.LogReport("denied")
	m.AnswerRefused(registry.Pool{ID: "gemma2"}, "slots")
	m.Probed(registry.Pool{ID: "gemma2"}, "timeout", time.Second)
	m.Restarted(registry.Pool{ID: "gemma2"}, "crash", 1)
	m.RestartScheduled(registry.Pool{ID: "gemma2"}, "crash", time.Second)
	m.Drained(registry.Pool{ID: "gemma2"}, time.Second, true)
	m.Storm(registry.Pool{ID: "gemma2"}, "crash")
	m.Reloaded(registry.Pool{ID: "gemma2"}, time.Second, "load")
	m.Preloaded("ready")
	m.Measured("done")
	m.Fetched("", 1<<30, 1<<29, time.Minute)
	m.Shared(1 << 20)
	m.Fetched("not_found", 0, 0, time.Second)
	m.Turned(time.Millisecond)
	m.LeaseRejected("exhausted")
	m.APICrowded("request", "closed")
	m.APIDenied("missing_token")
	m.Verified(true, "digest", "llamacpp")
	m.Counted(registry.Pool{ID: "gemma"}, "r0", "b5000", counts(11))
	families, err := m.prom.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	page.WriteString(pageHead)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "go_") || strings.HasPrefix(f.GetName(), "process_") {
			continue
		}
		page.WriteString(row(f))
	}
	page.WriteString(otelHead)
	reg, m = withOTelNames()
	reg.Put(engineOf("gemma"))
	m.Counted(registry.Pool{ID: "gemma"}, "r0", "b1", counts(11))
	if families, err = m.prom.Gather(); err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "gen_ai_") {
			page.WriteString(row(f))
		}
	}
	golden.File(t, filepath.Join("..", "..", "docs", "reference", "metrics.md"), page.String(), *update)
}

// row describes a metric.
func row(f *dto.MetricFamily) string {
	var labels []string
	for _, l := range f.GetMetric()[0].GetLabel() {
		labels = append(labels, "`"+l.GetName()+"`")
	}
	return fmt.Sprintf("| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()),
		strings.Join(labels, ", "), f.GetHelp())
}

const otelHead = `
## OpenTelemetry's names

With ` + "`[metrics] otel_names = true`" + ` there are two more. ` + "`gen_ai_provider_name`" + ` is the kind of engine and ` + "`gen_ai_request_model`" + ` the reference of the model. ` + "`gen_ai_operation_name`" + ` is absent, since
engines do not count by it. An engine that does not measure the first token has neither metric. The conventions have no name for a queue or a KV cache, and no engine here measures the time per token.

| metric | kind | labels | what it is |
| --- | --- | --- | --- |
`
