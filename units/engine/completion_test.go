package engine_test

import (
	"encoding/json"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestCompletionOf: which engines are asked for a streamed text, where, and by which name.
func TestCompletionOf(t *testing.T) {
	for _, c := range []struct {
		name       string
		kind       string
		args       []string
		path       string // "" for none
		model      string
		promptOnce bool
	}{
		{"llama_server", engine.LlamaCpp, nil, "/v1/completions", "a", true},
		{"llama_server_below_a_prefix", engine.LlamaCpp, []string{"--api-prefix", "/x"}, "/x/v1/completions", "a", true},
		{"llama_server_for_embeddings", engine.LlamaCpp, []string{"--embeddings"}, "", "", false},
		{"vllm", engine.VLLM, nil, "/v1/completions", "a", false},
		{"vllm_by_another_name", engine.VLLM, []string{"--served-model-name", "m"}, "/v1/completions", "m", false},
		{"sglang", engine.SGLang, nil, "/v1/completions", "a", false},
		{"trtllm", engine.TRTLLM, nil, "/v1/completions", "a", false},
		{"triton", engine.Triton, nil, "", "", false},
		{"another_program", engine.Program, nil, "", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pool.Pool{ID: "a", Engine: c.kind, Args: c.args}
			a, known := engine.For(c.kind)
			if !known {
				t.Fatal("unknown engine")
			}
			got, ok := engine.CompletionOf(engine.Served(a, p), p)
			if ok != (c.path != "") || got.Path != c.path {
				t.Fatalf("%q, %v; want %q", got.Path, ok, c.path)
			}
			if !ok {
				return
			}
			var body map[string]any
			if err := json.Unmarshal(got.Body("one two", 7), &body); err != nil {
				t.Fatal(err)
			}
			_, uncached := body["cache_prompt"]
			if body["model"] != c.model || body["prompt"] != "one two" || body["max_tokens"] != 7.0 ||
				body["stream"] != true || body["ignore_eos"] != true || uncached != c.promptOnce {
				t.Errorf("%v", body)
			}
		})
	}
}

func TestReadChunk(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       engine.Chunk
		fails      bool
	}{
		{"output", `{"choices":[{"text":"a"}],"usage":null}`, engine.Chunk{Output: true}, false},
		{"an_empty_output", `{"choices":[{"text":"","finish_reason":"length"}]}`, engine.Chunk{}, false},
		{"the_count_at_the_end", `{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":9}}`,
			engine.Chunk{Prompt: 3, Tokens: 9}, false},
		{"the_count_of_llama_server", `{"choices":[{"text":""}],"timings":{"prompt_n":3,"predicted_n":9}}`,
			engine.Chunk{Prompt: 3, Tokens: 9}, false},
		{"an_error_of_the_engine", `{"error":{"message":"out of memory"}}`, engine.Chunk{}, true},
		{"a_negative_count", `{"usage":{"prompt_tokens":-3}}`, engine.Chunk{}, true},
		{"no_json", `<html>`, engine.Chunk{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := engine.ReadChunk([]byte(c.data)); got != c.want || (err != nil) != c.fails {
				t.Errorf("%+v, %v", got, err)
			}
		})
	}
}
