package engine_test

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestPromptCacheArgs(t *testing.T) {
	const gib = 1 << 30
	for _, c := range []struct {
		name, kind, version string
		args                []string
		env                 map[string]string
		memoryMax, need     uint64
		want                string
	}{
		{"three_quarters_of_the_rest", "llamacpp", "0.7.0", nil, nil, 4 * gib, 2 * gib, "--cache-ram 1536"},
		{"of_a_build_by_hand", "llamacpp", "0.6.0-dev", nil, nil, 4 * gib, 2 * gib, "--cache-ram 1536"},
		{"of_a_build", "llamacpp", "11669", nil, nil, 4 * gib, 2 * gib, "--cache-ram 1536"},
		{"nothing_is_left", "llamacpp", "0.7.0", nil, nil, 2 * gib, 3 * gib, "--cache-ram 0"},
		{"unknown_need", "llamacpp", "0.7.0", nil, nil, 4 * gib, 0, "--cache-ram 1024"},
		{"its_own_bound_is_lower", "llamacpp", "0.7.0", nil, nil, 64 * gib, 2 * gib, ""},
		{"no_limit", "llamacpp", "0.7.0", nil, nil, 0, 2 * gib, ""},
		{"an_old_build", "llamacpp", "6123", nil, nil, 4 * gib, 2 * gib, ""},
		{"an_unknown_version", "llamacpp", "", nil, nil, 4 * gib, 2 * gib, ""},
		{"bounded_by_args", "llamacpp", "0.7.0", []string{"-cram", "512"}, nil, 4 * gib, 2 * gib, ""},
		{"bounded_by_the_environment", "llamacpp", "0.7.0", nil, map[string]string{"LLAMA_ARG_CACHE_RAM": "0"}, 4 * gib, 2 * gib, ""},
		{"another_engine", "vllm", "0.7.0", nil, nil, 4 * gib, 2 * gib, ""},
		{"an_unknown_engine", "newer", "0.7.0", nil, nil, 4 * gib, 2 * gib, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool.Pool{Engine: c.kind, Args: c.args, Env: c.env}
			got := engine.PromptCacheArgs(p, c.version, c.memoryMax, c.need)
			if strings.Join(got, " ") != c.want {
				t.Errorf("= %q, want %q", got, c.want)
			}
		})
	}
}
