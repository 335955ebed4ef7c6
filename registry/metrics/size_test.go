package metrics

import (
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/registry"
)

// busyHost is a host with so many pools of so many replicas that have counted one of everything.
// Their engines publish what llama-server does, or with latencies what vLLM does.
func busyHost(pools, replicas int, latencies bool) (*registry.Registry, *Metrics) {
	reg, _, m := withUsage()
	one, half := 1, 0.5
	for i := range pools {
		p := engineOf(fmt.Sprintf("llama-3-70b-%03d", i))
		p.ModelID = fmt.Sprintf("file:/srv/models/llama-3-70b-instruct-q4_k_m-%03d.gguf", i)
		first := p.Replicas[0]
		first.QueueDepth, first.Work = &one, registry.Work{InProgress: &one, TokensInFlight: &one, KVCacheUsage: &half}
		p.Replicas = nil
		for n := range replicas {
			r := first
			r.ID = fmt.Sprintf("r%d", n)
			p.Replicas = append(p.Replicas, r)
		}
		reg.Put(registry.Aggregate(p))
		for _, r := range p.Replicas {
			c := counts(1)
			if !latencies {
				c.FirstToken, c.Decode = nil, nil
			}
			m.Counted(p, r.ID, r.EngineVersion, c)
		}
		countAll(m, p.ID)
	}
	return reg, m
}

// scraped is how large the answer to a scrape is, in bytes.
func scraped(m *Metrics) int {
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.Len()
}

// measuringHost is a host with 250 pools of an engine that measures latencies, as vLLM does. They
// serve, are probed, and none has failed.
func measuringHost() *Metrics {
	reg := registry.New()
	m := New(Options{Registry: reg, Version: "1.2.3", Engines: []string{"vllm"}, Log: slog.New(slog.DiscardHandler),
		Usage: sameUsage, Reasons: someReasons()})
	one, half := 1, 0.5
	for i := range 250 {
		p := engineOf(fmt.Sprintf("llama-3-70b-%03d", i))
		p.Engine, p.ModelID = "vllm", fmt.Sprintf("hf:org/llama-3-70b-instruct-awq-%03d", i)
		r := &p.Replicas[0]
		r.EngineVersion, r.QueueDepth = "0.11.0", &one
		r.Work = registry.Work{InProgress: &one, TokensInFlight: &one, KVCacheUsage: &half}
		reg.Put(registry.Aggregate(p))
		m.Counted(p, r.ID, r.EngineVersion, counts(1))
		m.Probed(p, "", 3*time.Millisecond)
	}
	return m
}

// TestSizeOfAScrape: 250 pools of llama-server that each have counted everything once, and of an
// engine that measures latencies.
func TestSizeOfAScrape(t *testing.T) {
	const most = 3 << 19 // 1.5 MiB
	_, busy := busyHost(250, 1, false)
	for name, m := range map[string]*Metrics{"counted_everything": busy, "measures_latencies": measuringHost()} {
		if n := scraped(m); n > most {
			t.Errorf("%s: a scrape of 250 pools has %d bytes, want at most %d", name, n, most)
		} else {
			t.Logf("%s: %d bytes", name, n)
		}
	}
}

// TestZerosOfManyPools: beyond a number of pools, only reasons that were counted have series.
func TestZerosOfManyPools(t *testing.T) {
	for pools, want := range map[int]int{zerosUpTo: zerosUpTo * len(someReasons().Restarts), zerosUpTo + 1: 1} {
		reg, _, m := withUsage()
		for i := range pools {
			reg.Put(engineOf(fmt.Sprintf("p%03d", i)))
		}
		m.RestartScheduled(registry.Pool{ID: "p000"}, "oom", time.Second)
		if got := strings.Count(lines(t, m, "restart_scheduled_total"), "pool_id="); got != want {
			t.Errorf("%d pools: %d series, want %d", pools, got, want)
		}
	}
}

// cpuTime is what this process has used of the CPUs.
func cpuTime(b *testing.B) time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		b.Fatal(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}

// BenchmarkScrape250Pools also reports the size of the answer, and the CPU time, which is what a
// scrape takes at most where nothing else runs.
func BenchmarkScrape250Pools(b *testing.B) {
	_, busy := busyHost(250, 1, false)
	for name, m := range map[string]*Metrics{"counted_everything": busy, "measures_latencies": measuringHost()} {
		b.Run(name, func(b *testing.B) {
			h := m.Handler()
			b.ReportAllocs()
			before := cpuTime(b)
			for b.Loop() {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
				_, _ = io.Copy(io.Discard, w.Body)
			}
			b.ReportMetric((cpuTime(b)-before).Seconds()*1000/float64(b.N), "cpu-ms/scrape")
			b.ReportMetric(float64(scraped(m)), "bytes/scrape")
		})
	}
}

// BenchmarkHeldBy250Pools reports what the metrics hold in memory.
func BenchmarkHeldBy250Pools(b *testing.B) {
	var before, after runtime.MemStats
	for b.Loop() {
		runtime.GC()
		runtime.ReadMemStats(&before)
		_, m := busyHost(250, 1, false)
		runtime.GC()
		runtime.ReadMemStats(&after)
		runtime.KeepAlive(m)
	}
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc), "held-bytes")
}

// TestBudget: a host at the limits has at most so many series, whatever its pools have counted, and
// none of them is left when the pools are gone.
func TestBudget(t *testing.T) {
	reg, m := busyHost(maxPools, 4, true)
	families, err := m.gather()
	if err != nil {
		t.Fatal(err)
	}
	values, total := make(map[string]map[string]bool), 0
	for _, f := range families {
		total += len(f.GetMetric())
		for _, s := range f.GetMetric() {
			for _, l := range s.GetLabel() {
				if values[l.GetName()] == nil {
					values[l.GetName()] = make(map[string]bool)
				}
				values[l.GetName()][l.GetValue()] = true
			}
			if s.GetCounter().GetExemplar() != nil {
				t.Errorf("%s has an exemplar", f.GetName())
			}
			for _, b := range s.GetHistogram().GetBucket() {
				if b.GetExemplar() != nil {
					t.Errorf("%s has an exemplar", f.GetName())
				}
			}
		}
	}
	for label, most := range map[string]int{"engine": 8, "engine_version": maxVersions, "pool_id": maxPools,
		"replica_id": maxReplicas, "reason": 3 * maxReasons, "priority": 1} {
		if n := len(values[label]); n == 0 || n > most {
			t.Errorf("%d values of %s, want 1 to %d", n, label, most)
		}
	}
	// 36 series of a pool and 9 of a replica, a histogram as one.
	if most := maxPools*36 + maxReplicas*9 + 200; total > most {
		t.Errorf("%d series, want at most %d", total, most)
	} else {
		t.Logf("%d series", total)
	}
	for _, p := range reg.Pools() {
		reg.Remove(p.ID)
	}
	if got := scrape(t, m); strings.Contains(got, "pool_id=") || strings.Contains(got, "llama-3-70b") {
		t.Errorf("series of removed pools:\n%.2000s", got)
	}
}

// TestCountersSurviveAReload: a pool whose file changed is published with other values, and goes on
// counting.
func TestCountersSurviveAReload(t *testing.T) {
	reg, m := busyHost(1, 1, true)
	counters := func() string {
		var out []string
		for line := range strings.Lines(scrape(t, m)) {
			if name, _, _ := strings.Cut(line, "{"); strings.Contains(line, "pool_id") &&
				(strings.HasSuffix(name, "_total") || strings.HasSuffix(name, "_count")) && name != "slots_total" {
				out = append(out, line)
			}
		}
		return strings.Join(out, "")
	}
	before := counters()
	p := reg.Pools()[0]
	p.ModelID, p.Ctx, p.Replicas = "file:/srv/models/other.gguf", 4096, slices.Clone(p.Replicas)
	p.Replicas[0].State, p.Replicas[0].Ready, p.Replicas[0].SpecHash = registry.StateStarting, false, "another"
	reg.Put(registry.Aggregate(p))
	if diff := cmp.Diff(before, counters()); diff != "" || strings.Count(before, "\n") < 30 {
		t.Errorf("counters over a reload (-before +after):\n%s", diff)
	}
}
