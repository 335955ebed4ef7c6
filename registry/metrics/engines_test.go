package metrics

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
)

// counts is that an engine has counted n of everything.
func counts(n uint64) registry.Counted {
	latency := func(bounds int) *registry.Latency {
		l := &registry.Latency{Buckets: make([]uint64, bounds), Count: n, SumMS: float64(100 * n)}
		l.Buckets[bounds-1] = n
		return l
	}
	return registry.Counted{TokensIn: &n, TokensOut: &n, FirstToken: latency(11), Decode: latency(10)}
}

func ofEngines() (*registry.Registry, *Metrics) {
	reg, _, m := withUsage()
	return reg, m
}

func TestWhatEnginesCount(t *testing.T) {
	reg, m := ofEngines()
	reg.Put(engineOf("a"))
	m.Counted(registry.Pool{ID: "a"}, "r0", "b1", counts(0))
	if got := lines(t, m, "tokens_"); got != "tokens_in_total"+labelsOfA+" 0\ntokens_out_total"+labelsOfA+" 0" {
		t.Errorf("a first reading is the start of each series:\n%s", got)
	}
	m.Counted(registry.Pool{ID: "a"}, "r0", "b1", counts(3))
	m.Counted(registry.Pool{ID: "a"}, "r0", "b1", counts(4))
	if got := lines(t, m, "tokens_in"); got != "tokens_in_total"+labelsOfA+" 7" {
		t.Error(got)
	}
	ofPool := `{engine="llamacpp",engine_version="b1",pool_id="a",priority="any"`
	for _, want := range []string{`latency_first_token_ms_bucket` + ofPool + `,le="3000"} 7`,
		`latency_first_token_ms_bucket` + ofPool + `,le="2000"} 0`, `latency_first_token_ms_count` + ofPool + `} 7`,
		`latency_first_token_ms_sum` + ofPool + `} 700`, `latency_decode_ms_bucket` + ofPool + `,le="12000"} 7`} {
		if got := lines(t, m, "latency_"); !strings.Contains(got, want) {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
	if lines(t, m, "queue_depth") != "" || lines(t, m, "kv_cache") != "" || lines(t, m, "requests_in") != "" {
		t.Error("series of what is not known")
	}
}

func TestWhatEnginesWorkOn(t *testing.T) {
	reg, m := ofEngines()
	p := engineOf("a")
	two, half := 2, 0.5
	p.Replicas[0].QueueDepth, p.Replicas[0].Work = &two,
		registry.Work{InProgress: &two, TokensInFlight: &two, KVCacheUsage: &half}
	other := p.Replicas[0]
	other.ID = "r1"
	p.Replicas = append(p.Replicas, other)
	reg.Put(registry.Aggregate(p))
	got := lines(t, m, "")
	for _, want := range []string{"requests_in_progress" + labelsOfA + " 2", "tokens_in_flight" + labelsOfA + " 2",
		"kv_cache_usage_ratio" + labelsOfA + " 0.5",
		`queue_depth{engine="llamacpp",engine_version="b1",pool_id="a",priority="any"} 4`} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestWhatEnginesCountedEnds(t *testing.T) {
	count := func(m *Metrics, version string) { m.Counted(registry.Pool{ID: "a"}, "r0", version, counts(5)) }
	run := func(version string) registry.Pool {
		p := engineOf("a")
		p.Replicas[0].EngineVersion = version
		return registry.Aggregate(p)
	}
	t.Run("with_the_pool", func(t *testing.T) {
		reg, m := ofEngines()
		reg.Put(run("b1"))
		count(m, "b1")
		reg.Remove("a")
		count(m, "b1") // a reading that was under way
		if got := lines(t, m, ""); strings.Contains(got, `pool_id="a"`) {
			t.Error(got)
		}
		reg.Put(run("b1"))
		if got := lines(t, m, "tokens_in"); got != "" {
			t.Errorf("a pool that came again has %s", got)
		}
	})
	t.Run("with_the_version", func(t *testing.T) {
		reg, m := ofEngines()
		reg.Put(run("b1"))
		count(m, "b1")
		reg.Put(run("b2"))
		if got := lines(t, m, "tokens_in"); got != "" {
			t.Errorf("of a version that does not run: %s", got)
		}
		count(m, "b2")
		got := lines(t, m, "tokens_in") + lines(t, m, "latency_first_token_ms_count")
		if strings.Contains(got, "b1") || strings.Count(got, `"b2"`) != 2 {
			t.Error(got)
		}
	})
	t.Run("with_the_replica", func(t *testing.T) {
		reg, m := ofEngines()
		reg.Put(run("b1"))
		count(m, "b1")
		p := run("b1")
		p.Replicas[0].ID = "r0b"
		reg.Put(p)
		if got := lines(t, m, "tokens_in"); got != "" {
			t.Errorf("of a replica that is gone: %s", got)
		}
		if got := lines(t, m, "latency_first_token_ms_count"); got == "" {
			t.Error("latencies are of the pool and its version, and outlive a replica")
		}
	})
}

// TestBucketsOfEngines: the two packages that share the bounds do not import each other.
func TestBucketsOfEngines(t *testing.T) {
	_, m := ofEngines()
	if !slices.Equal(m.engines.firstToken.bounds, engine.FirstTokenBounds()) ||
		!slices.Equal(m.engines.decode.bounds, engine.DecodeBounds()) {
		t.Error("the buckets of registry/metrics are not those of units/engine")
	}
}

func TestCardinalityOfEngines(t *testing.T) {
	reg, m := ofEngines()
	for i := range 300 {
		p := engineOf(fmt.Sprintf("pool-%03d", i))
		for n := 1; n < 4; n++ {
			r := p.Replicas[0]
			r.ID, r.EngineVersion = fmt.Sprintf("r%d", n), fmt.Sprintf("b%d", i)
			p.Replicas = append(p.Replicas, r)
		}
		reg.Put(registry.Aggregate(p))
		for _, r := range p.Replicas {
			m.Counted(p, r.ID, r.EngineVersion, counts(1))
		}
	}
	got := lines(t, m, "")
	if n := strings.Count(got, "\ntokens_in_total{"); n != maxReplicas {
		t.Errorf("%d series of tokens_in_total, want %d", n, maxReplicas)
	}
	if !strings.Contains(got, "engine_figures_omitted 176\n") || strings.Contains(got, `engine_version="b200"`) {
		t.Error("what exceeds the limits is shown, or not counted")
	}
}
