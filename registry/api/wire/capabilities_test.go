package wire

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

func TestCapabilitiesOf(t *testing.T) {
	pool := func(id, version string, ctx int, workloads ...string) *registry.Pool {
		return &registry.Pool{ID: id, Engine: "llamacpp", EngineVersion: version, Ready: true, SlotsTotal: 2, Ctx: ctx,
			Workloads: workloads}
	}
	off := pool("off", "b1", 99999, "rerank")
	off.Ready = false
	for _, c := range []struct {
		name  string
		pools []*registry.Pool
		want  string
	}{
		{"nothing_is_ready", []*registry.Pool{off}, `{"api_version":"v1","engines":[]}`},
		{"pools_of_one_version_are_joined", []*registry.Pool{pool("a", "b1", 0, "embedding"), pool("b", "b1", 4096, "completion"), off},
			`{"api_version":"v1","engines":[{"engine":"llamacpp","engine_version":"b1","ctx_max":4096,"slots_total":4,` +
				`"supported_workloads":["completion","embedding"],"features":[],"quantizations":[],"pools":["a","b"]}]}`},
		{"features_and_quantizations_are_joined", []*registry.Pool{
			{ID: "a", Engine: "llamacpp", Ready: true, Features: []string{"vision"}, Model: registry.Model{Quantization: "Q4_K_M"}},
			{ID: "b", Engine: "llamacpp", Ready: true, Features: []string{"chat_template", "vision"},
				Model: registry.Model{Quantization: "BF16"}}},
			`{"api_version":"v1","engines":[{"engine":"llamacpp","engine_version":null,"ctx_max":null,"slots_total":0,` +
				`"supported_workloads":[],"features":["chat_template","vision"],"quantizations":["BF16","Q4_K_M"],"pools":["a","b"]}]}`},
		{"versions_stand_apart_and_one_may_be_unknown", []*registry.Pool{pool("a", "b2", 1), pool("b", "", 0)},
			`{"api_version":"v1","engines":[{"engine":"llamacpp","engine_version":null,"ctx_max":null,"slots_total":2,` +
				`"supported_workloads":[],"features":[],"quantizations":[],"pools":["b"]},{"engine":"llamacpp","engine_version":"b2","ctx_max":1,"slots_total":2,` +
				`"supported_workloads":[],"features":[],"quantizations":[],"pools":["a"]}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := encoded(t, CapabilitiesOf(c.pools)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
