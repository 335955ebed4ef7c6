package metrics

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/pool-managerd/pool-managerd/registry"
)

func withOTelNames() (*registry.Registry, *Metrics) {
	reg := registry.New()
	return reg, New(Options{Registry: reg, Version: "1", Engines: []string{"llamacpp"}, OTelNames: true,
		Log: slog.New(slog.DiscardHandler), Reasons: someReasons()})
}

// TestOTelNames: the figures of all replicas of a pool, in seconds, and none of an engine that does
// not measure the first token; without the option no such name.
func TestOTelNames(t *testing.T) {
	reg, m := withOTelNames()
	p := engineOf("a")
	p.ModelID = "file:/srv/\xff.gguf"
	second := p.Replicas[0]
	second.ID = "r1"
	p.Replicas = append(p.Replicas, second)
	reg.Put(registry.Aggregate(p))
	reg.Put(engineOf("quiet"))
	in, out := uint64(100), uint64(40)
	latency := registry.Latency{Buckets: []uint64{0, 1, 2, 2, 2, 2, 2, 2, 2, 2, 2}, Count: 3, SumMS: 4200}
	for _, replica := range []string{"r0", "r1"} {
		m.Counted(p, replica, "b1", registry.Counted{TokensIn: &in, TokensOut: &out, FirstToken: &latency})
	}
	m.Counted(registry.Pool{ID: "quiet"}, "r0", "b1", registry.Counted{TokensIn: &in, TokensOut: &out})
	const of = `gen_ai_provider_name="llamacpp",gen_ai_request_model="file:/srv/?.gguf",`
	got := lines(t, m, "gen_ai")
	for _, want := range []string{
		`gen_ai_server_time_to_first_token_seconds_bucket{` + of + `pool_id="a",le="0.05"} 0`,
		`gen_ai_server_time_to_first_token_seconds_bucket{` + of + `pool_id="a",le="0.15"} 4`,
		`gen_ai_server_time_to_first_token_seconds_bucket{` + of + `pool_id="a",le="+Inf"} 6`,
		`gen_ai_server_time_to_first_token_seconds_sum{` + of + `pool_id="a"} 8.4`,
		`gen_ai_client_token_usage_sum{` + of + `gen_ai_token_type="input",pool_id="a"} 200`,
		`gen_ai_client_token_usage_sum{` + of + `gen_ai_token_type="output",pool_id="a"} 80`,
		`gen_ai_client_token_usage_count{` + of + `gen_ai_token_type="output",pool_id="a"} 6`,
	} {
		if !strings.Contains(got+"\n", want+"\n") {
			t.Errorf("no %s:\n%s", want, got)
		}
	}
	if strings.Contains(got, "quiet") {
		t.Errorf("an engine that measures no first token has series:\n%s", got)
	}
	for _, name := range []string{"tokens_out_total", "latency_first_token_ms_count"} {
		if lines(t, m, name+"{") == "" {
			t.Errorf("%s is gone", name)
		}
	}
	problems, err := testutil.GatherAndLint(m.prom)
	if err != nil {
		t.Fatal(err)
	}
	var ofThese []string
	for _, problem := range problems {
		if strings.HasPrefix(problem.Metric, "gen_ai") {
			ofThese = append(ofThese, problem.Metric+": "+problem.Text)
		}
	}
	if diff := cmp.Diff([]string(nil), ofThese); diff != "" {
		t.Errorf("promlint (-allowed +got):\n%s", diff)
	}
	reg.Remove("a")
	if got := lines(t, m, "gen_ai"); got != "" {
		t.Errorf("series of a removed pool:\n%s", got)
	}
	if _, without := ofEngines(); lines(t, without, "gen_ai") != "" {
		t.Error("without the option")
	}
}
