package engine_test

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestLayerLogArgs(t *testing.T) {
	const asked = "--verbosity 4"
	for _, c := range []struct {
		name, kind, version string
		gpus                int
		pool                pool.Pool
		want                string
	}{
		{"a_release", "llamacpp", "0.7.0", 1, pool.Pool{}, asked},
		{"a_build_by_hand", "llamacpp", "0.6.0-dev", 2, pool.Pool{}, asked},
		{"a_build", "llamacpp", "11434", 1, pool.Pool{}, asked},
		{"an_old_build_logs_it_anyway", "llamacpp", "6123", 1, pool.Pool{}, ""},
		{"an_unknown_version", "llamacpp", "", 1, pool.Pool{}, ""},
		{"no_gpu", "llamacpp", "0.7.0", 0, pool.Pool{}, ""},
		{"the_pool_sets_its_own", "llamacpp", "0.7.0", 1, pool.Pool{Args: []string{"-lv", "2"}}, ""},
		{"by_the_environment", "llamacpp", "0.7.0", 1,
			pool.Pool{Env: map[string]string{"LLAMA_ARG_LOG_VERBOSITY": "5"}}, ""},
		{"all_of_it", "llamacpp", "0.7.0", 1, pool.Pool{Args: []string{"--verbose"}}, ""},
		{"a_key_stays_secret", "llamacpp", "0.7.0", 1, pool.Pool{APIKeyFile: "/etc/key"}, ""},
		{"a_key_in_args", "llamacpp", "0.7.0", 1, pool.Pool{Args: []string{"--api-key", "sk-x"}}, ""},
		{"another_engine", "vllm", "0.32.0", 1, pool.Pool{}, ""},
		{"an_unknown_engine", "newer", "0.7.0", 1, pool.Pool{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.pool.Engine = c.kind
			if got := strings.Join(engine.LayerLogArgs(c.pool, c.version, c.gpus), " "); got != c.want {
				t.Errorf("= %q, want %q", got, c.want)
			}
		})
	}
}
