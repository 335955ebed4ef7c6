package engine_test

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestFeatures(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		args       string
		env        map[string]string
		model      pool.Description
		want       string
	}{
		{"none", "llamacpp", "--jinja", nil, pool.Description{}, ""},
		{"the_models_template", "llamacpp", "", nil, pool.Description{ChatTemplate: true}, "chat_template"},
		{"the_pools_too", "llamacpp", "--chat-template-file /t.jinja", nil, pool.Description{ChatTemplate: true}, "chat_template"},
		{"all_of_llama_cpp", "llamacpp", "--mmproj /m.gguf --lora /l.gguf -md /d.gguf --chat-template chatml", nil,
			pool.Description{}, "chat_template lora speculative vision"},
		{"by_variables", "llamacpp", "", map[string]string{"LLAMA_ARG_MMPROJ": "/m.gguf"}, pool.Description{}, "vision"},
		{"an_empty_variable", "llamacpp", "", map[string]string{"LLAMA_ARG_MMPROJ": ""}, pool.Description{}, ""},
		{"vllm", "vllm", "--enable_lora --speculative-config={}", nil, pool.Description{}, "lora speculative"},
		{"sglang", "sglang", "--lora-paths a=/b", nil, pool.Description{}, "lora"},
		{"a_command", "command", "--lora x", nil, pool.Description{ChatTemplate: true}, "chat_template"},
		{"an_unknown_engine", "newer", "", nil, pool.Description{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool.Pool{Engine: c.kind, Args: strings.Fields(c.args), Env: c.env}
			if got := strings.Join(engine.Features(p, c.model), " "); got != c.want {
				t.Errorf("= %q, want %q", got, c.want)
			}
		})
	}
}

func TestOffered(t *testing.T) {
	embeds := pool.Description{Workload: engine.WorkEmbedding}
	for _, c := range []struct {
		name, kind, args string
		model            pool.Description
		want             string
	}{
		{"vllm_serves_what_the_model_is_for", "vllm", "", embeds, "embedding"},
		{"vllm_of_an_unknown_model", "vllm", "", pool.Description{}, "completion"},
		{"vllm_is_told_what_to_serve", "vllm", "--runner generate", embeds, "completion"},
		{"llama_cpp_serves_what_it_is_told", "llamacpp", "", embeds, "completion"},
		{"llama_cpp_is_told_to_embed", "llamacpp", "--embeddings", embeds, "embedding"},
		{"an_unknown_engine", "newer", "", embeds, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool.Pool{Engine: c.kind, Args: strings.Fields(c.args)}
			if got := strings.Join(engine.Offered(p, c.model), " "); got != c.want {
				t.Errorf("= %q, want %q", got, c.want)
			}
		})
	}
}
