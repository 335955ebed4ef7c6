package metrics

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

| metric | kind | labels | what it is |
| --- | --- | --- | --- |
`

// TestReference prints the metrics of a host with everything into the docs.
func TestReference(t *testing.T) {
	reg, m := onGPUs(0)
	reg.Put(serving("gemma2", 4, 3))
	m.DriverReset("GPU-1", "xid")
	m.LogReport("denied")
	m.AnswerRefused(registry.Pool{ID: "gemma2"}, "slots")
	m.Probed(registry.Pool{ID: "gemma2"}, "timeout", time.Second)
	m.Restarted(registry.Pool{ID: "gemma2"}, "crash", 1)
	m.RestartScheduled(registry.Pool{ID: "gemma2"}, "crash")
	m.Drained(registry.Pool{ID: "gemma2"}, time.Second, true)
	m.Storm(registry.Pool{ID: "gemma2"}, "crash")
	m.Reloaded(registry.Pool{ID: "gemma2"}, time.Second, "load")
	m.Fetched("", 1<<30, time.Minute)
	m.Fetched("not_found", 0, time.Second)
	m.LeaseRejected("exhausted")
	m.APICrowded("request", "closed")
	m.APIDenied("missing_token")
	m.Verified(true, "digest", "llamacpp")
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
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		fmt.Fprintf(&page, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()),
			strings.Join(labels, ", "), f.GetHelp())
	}
	golden.File(t, filepath.Join("..", "..", "docs", "reference", "metrics.md"), page.String(), *update)
}
