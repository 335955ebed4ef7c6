package metrics

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the golden files")

func serving(id string, total, free int) registry.Pool {
	return registry.Aggregate(registry.Pool{ID: id, Engine: "llamacpp", ModelID: "file:/srv/models/" + id + ".gguf",
		Replicas: []registry.Replica{
			{ID: "r0", State: registry.StateReady, Live: true, Ready: true, SlotsTotal: total,
				ActiveLeases: total - free,
				Reason:       "the engine answers"},
		}})
}

func crashed(id string) registry.Pool {
	return registry.Aggregate(registry.Pool{ID: id, ModelID: "file:/srv/models/" + id + ".gguf",
		Replicas: []registry.Replica{
			{ID: "r0", State: registry.StateBackoff, SlotsTotal: 2, RestartCount: 3, Backoff: 2300 * time.Millisecond},
		}})
}

func newMetrics(reg *registry.Registry) *Metrics {
	return New(Options{Registry: reg, Version: "1.2.3", Calls: func() uint64 {
		return 42
	}, Log: slog.New(slog.DiscardHandler)})
}

// scrape returns the lines of /metrics without those of the Go and process collectors, whose values
// vary.
func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("GET /metrics: %d\n%s", w.Code, w.Body)
	}
	var out strings.Builder
	for line := range strings.Lines(w.Body.String()) {
		name := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			out.WriteString(strings.ReplaceAll(line, runtime.Version(), "goX"))
		}
	}
	return out.String()
}

func TestGoldenScrape(t *testing.T) {
	reg := registry.New()
	m := newMetrics(reg)
	reg.Put(serving("gemma", 4, 3))
	reg.Put(serving("llama3", 8, 8))
	reg.Put(crashed("llama3"))
	gemma, llama3 := registry.Pool{ID: "gemma"}, registry.Pool{ID: "llama3"}
	m.Restarted(llama3, "crash", 2)
	m.Restarted(llama3, "crash", -3) // an administrator reset the counter
	m.RestartScheduled(llama3, "crash", time.Second)
	m.Probed(gemma, "", 3*time.Millisecond)
	m.Probed(gemma, "timeout", 2*time.Second)
	m.Reloaded(gemma, time.Second, "load")
	m.LeaseRejected("exhausted")
	m.Breaker(llama3, "open")
	m.Storm(llama3, "oom")
	m.Drained(gemma, time.Second, true)
	m.Verified(true, "digest", "llamacpp")
	m.Verified(false, "mismatch", "llamacpp")

	golden.File(t, filepath.Join("testdata", "scrape.golden"), scrape(t, m), *update)
}

func TestGoAndProcessCollectorsAreThere(t *testing.T) {
	w := httptest.NewRecorder()
	newMetrics(registry.New()).Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, name := range []string{"go_goroutines", "process_resident_memory_bytes"} {
		if !strings.Contains(w.Body.String(), "\n"+name+" ") {
			t.Errorf("%s is missing", name)
		}
	}
}

// TestLint: a finding of promlint beyond this list is a mistake. The listed names are fixed by
// other programs.
func TestLint(t *testing.T) {
	_, m := onGPUs(0)
	m.DriverReset("GPU-1", "xid")
	countAll(m, "gemma")
	m.Verified(true, "digest", "llamacpp")
	allowed := []string{
		`backoff_delay_ms: metric names should not contain abbreviated units`,
		`drain_duration_ms: metric names should not contain abbreviated units`,
		`health_probe_duration_ms: metric names should not contain abbreviated units`,
		`reload_duration_ms: metric names should not contain abbreviated units`,
		`slots_total: non-counter metrics should not have "_total" suffix`,
	}
	problems, err := testutil.GatherAndLint(m.prom)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range problems {
		got = append(got, p.Metric+": "+p.Text)
	}
	slices.Sort(got)
	if diff := cmp.Diff(allowed, got); diff != "" {
		t.Errorf("promlint (-allowed +got):\n%s", diff)
	}
}

func TestSeriesOfARemovedPoolGoWithIt(t *testing.T) {
	reg := registry.New()
	m := newMetrics(reg)
	reg.Put(serving("gemma", 4, 4))
	reg.Put(serving("llama3", 4, 4))
	if !strings.Contains(scrape(t, m), "gemma") {
		t.Fatal("the pool has no series while it is there")
	}
	reg.Remove("gemma")
	got := scrape(t, m)
	if strings.Contains(got, "gemma") {
		t.Errorf("series are left:\n%s", got)
	}
	if !strings.Contains(got, `readiness_transitions_total{reason="removed",to="unready"} 1`) {
		t.Errorf("the removal of a ready pool is no transition:\n%s", got)
	}
}

func TestCardinality(t *testing.T) {
	t.Run("pools", func(t *testing.T) {
		reg := registry.New()
		m := newMetrics(reg)
		for i := range maxPools + 44 {
			reg.Put(serving(fmt.Sprintf("pool-%03d", i), 1, 1))
		}
		got := scrape(t, m)
		if n := strings.Count(got, "\npool_ready{"); n != maxPools {
			t.Errorf("%d series of pool_ready, want %d", n, maxPools)
		}
		if !strings.Contains(got, "\npools_omitted 44\n") {
			t.Error("pools without series are not counted")
		}
	})
	t.Run("reasons", func(t *testing.T) {
		reg := registry.New()
		reg.Put(serving("gemma", 1, 1))
		m := newMetrics(reg)
		for i := range 100 {
			m.Probed(registry.Pool{ID: "gemma"}, fmt.Sprintf("reason %d", i), time.Millisecond)
			m.RestartScheduled(registry.Pool{ID: "gemma"}, "", time.Second) // a caller that does not know
		}
		got := scrape(t, m)
		if n := strings.Count(got, "\nhealth_probe_failures_total{"); n > maxReasons {
			t.Errorf("%d reasons, budget %d", n, maxReasons)
		}
		if !strings.Contains(got, `health_probe_failures_total{pool_id="gemma",reason="other"} 86`) ||
			!strings.Contains(got, `restart_scheduled_total{pool_id="gemma",reason="unknown"} 100`) {
			t.Errorf("what exceeds the budget is not counted:\n%s", got)
		}
	})
	t.Run("transitions", func(t *testing.T) {
		if n := len(registry.Reasons()); n > maxReasons {
			t.Errorf("%d reasons, budget %d", n, maxReasons)
		}
	})
}

// TestAModelThatIsNotText: an orphan's unit may carry anything.
func TestAModelThatIsNotText(t *testing.T) {
	reg := registry.New()
	p := serving("gemma", 1, 1)
	p.ModelID = "file:/srv/\xff.gguf"
	reg.Put(p)
	if got := scrape(t, newMetrics(reg)); !strings.Contains(got,
		`model_state{model_id="file:/srv/?.gguf",state="Active"} 1`) {
		t.Errorf("%s", got)
	}
}

func BenchmarkScrape100Pools(b *testing.B) {
	reg := registry.New()
	for i := range 100 {
		reg.Put(serving(fmt.Sprintf("pool-%03d", i), 4, 4))
	}
	h := newMetrics(reg).Handler()
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		_, _ = io.Copy(io.Discard, w.Body)
	}
}
