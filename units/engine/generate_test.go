package engine_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
)

func TestGeneration(t *testing.T) {
	cases := []struct {
		kind, path string
		good       string
		bad        []string
	}{
		{engine.LlamaCpp, "/completion", `{"index":0,"content":"","tokens_predicted":1,"stop":true}`, []string{`{"error":{"code":500}}`, ``, `[]`, `null`}},
		{engine.VLLM, "/v1/completions", `{"choices":[{"index":0,"text":" b"}]}`, []string{`{"choices":[]}`, `{"object":"error"}`, `x`}},
		{engine.TGI, "/generate", `{"generated_text":"b"}`, []string{`{"error":"overloaded"}`, `[{"generated_text":"b"}]`}},
		{engine.Triton, "", `{}`, []string{``}},
		{engine.Program, "", `{}`, []string{``}},
	}
	for _, c := range cases {
		t.Run(c.kind, func(t *testing.T) {
			a, _ := engine.For(c.kind)
			path, body, read := engine.Generation(a, wanted(c.kind))
			if path != c.path || path != "" && !json.Valid(body) {
				t.Errorf("%q with %s, want %q", path, body, c.path)
			}
			if err := read([]byte(c.good)); err != nil {
				t.Errorf("%s: %v", c.good, err)
			}
			for _, bad := range c.bad {
				if read([]byte(bad)) == nil {
					t.Errorf("%q is taken for a generation", bad)
				}
			}
			p := wanted(c.kind)
			p.Health.GeneratePath, p.Health.GenerateBody = "/own", `{"own":1}`
			if path, body, read := engine.Generation(a, p); path != "/own" || string(body) != `{"own":1}` ||
				read([]byte("x")) != nil || read(nil) == nil {
				t.Errorf("the pool's own request is %q with %s", path, body)
			}
			if a.CountsIdle() != (c.kind == engine.Triton) {
				t.Errorf("CountsIdle is %t", a.CountsIdle())
			}
		})
	}
}

// TestGenerationOfAWorkload: an engine that serves no completions is asked for what it serves,
// below its prefix.
func TestGenerationOfAWorkload(t *testing.T) {
	for _, c := range []struct {
		kind       string
		args       []string
		path, body string
		good, bad  string
	}{
		{engine.LlamaCpp, []string{"--embeddings"}, "/v1/embeddings", `{"input":"a","model":"demo"}`, `{"data":[{"embedding":[0.5]}]}`, `{"data":[]}`},
		{engine.LlamaCpp, []string{"--reranking", "--api-prefix", "/x"}, "/x/v1/rerank", `{"documents":["a"],"model":"demo","query":"a"}`,
			`{"results":[{"index":0,"relevance_score":-1.5}]}`, `{"content":""}`},
		{engine.LlamaCpp, []string{"--api-prefix", "/x"}, "/x/completion", "", `{"content":""}`, `{"data":[{}]}`},
		{engine.SGLang, []string{"--is-embedding"}, "/v1/embeddings", `{"input":"a","model":"demo"}`, `{"data":[{"embedding":[0.5]}]}`, `{"choices":[{}]}`},
		{engine.VLLM, []string{"--task", "score", "--served-model-name", "m"}, "/v1/rerank", `{"documents":["a"],"model":"m","query":"a"}`, `{"results":[{}]}`, `{}`},
	} {
		p := wanted(c.kind, c.args...)
		a, _ := engine.For(c.kind)
		path, body, read := engine.Generation(engine.Served(a, p), p)
		if path != c.path || c.body != "" && string(body) != c.body {
			t.Errorf("%s %q: %s with %s, want %s with %s", c.kind, c.args, path, body, c.path, c.body)
		}
		if err := read([]byte(c.good)); err != nil || read([]byte(c.bad)) == nil || read(nil) == nil {
			t.Errorf("%s %q: %v", c.kind, c.args, err)
		}
	}
}

// TestServedName: a request to vLLM names the model as its command line does.
func TestServedName(t *testing.T) {
	a, _ := engine.For(engine.VLLM)
	for want, args := range map[string][]string{
		"demo": nil, "one": {"--served-model-name", "one", "two"}, "three": {"--served_model_name=three"}, "four": {"-x", "--served-model-name=four"},
	} {
		var request struct{ Model string }
		if err := json.Unmarshal(a.GenerateBody(wanted(engine.VLLM, args...)), &request); err != nil ||
			request.Model != want {
			t.Errorf("args %q: model %q, %v; want %q", args, request.Model, err, want)
		}
	}
}

func TestProgress(t *testing.T) {
	cases := []struct {
		name, kind, one, two string
		moved                bool
	}{
		{"llamacpp/a_token", engine.LlamaCpp, `[{"next_token":[{"n_decoded":4}]},{"id":1}]`, `[{"next_token":[{"n_decoded":5}]},{"id":1}]`, true},
		{"llamacpp/a_token_of_an_older_version", engine.LlamaCpp, `[{"next_token":{"n_decoded":4}}]`, `[{"next_token":{"n_decoded":5}}]`, true},
		{"llamacpp/a_long_prompt", engine.LlamaCpp, `[{"n_prompt_tokens_processed":512,"next_token":[{"n_decoded":0}]}]`,
			`[{"n_prompt_tokens_processed":1024,"next_token":[{"n_decoded":0}]}]`, true},
		{"llamacpp/taken_and_given_back_is_no_progress", engine.LlamaCpp, `[{"is_processing":true,"id_task":7,"next_token":[{"n_decoded":4}]}]`,
			`[{"is_processing":false,"id_task":9,"next_token":[{"n_decoded":4}]}]`, false},
		{"vllm/a_token", engine.VLLM, "vllm:generation_tokens_total{model_name=\"a\"} 4.0\n", "vllm:generation_tokens_total{model_name=\"a\"} 5.0\n", true},
		{"vllm/a_long_prompt", engine.VLLM, "vllm:prompt_tokens_total 4\nvllm:generation_tokens_total 4.0\n", "vllm:prompt_tokens_total 9\nvllm:generation_tokens_total 4.0\n", true},
		{"vllm/none", engine.VLLM, "vllm:generation_tokens_total 4\nvllm:num_requests_running 1\n", "vllm:generation_tokens_total 4\nvllm:num_requests_running 2\n", false},
		{"tgi/a_step", engine.TGI, "tgi_batch_inference_success{method=\"decode\"} 4\n", "tgi_batch_inference_success{method=\"decode\"} 5\n", true},
		{"tgi/none", engine.TGI, "tgi_batch_inference_success 4\ntgi_queue_size 1\n", "tgi_batch_inference_success 4\ntgi_queue_size 3\n", false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, _ := engine.For(c.kind)
			if a.ProgressPath() == "" {
				t.Error("no path")
			}
			one, err := a.Progress([]byte(c.one))
			two, err2 := a.Progress([]byte(c.two))
			if err != nil || err2 != nil || one == "" || two == "" {
				t.Fatalf("%q, %v; %q, %v", one, err, two, err2)
			}
			if (one != two) != c.moved {
				t.Errorf("%q, then %q", one, two)
			}
		})
	}
	for _, kind := range engine.Kinds() {
		a, _ := engine.For(kind)
		for _, body := range []string{"", "null", "[]", "{}", `[{"id":0,"is_processing":true}]`, "x 1\n"} {
			if mark, err := a.Progress([]byte(body)); err == nil || mark != "" {
				t.Errorf("%s: %q has no progress, and is %q, %v", kind, body, mark, err)
			}
		}
	}
}

// TestRealAnswers reads what a real llama-server said: never used, after one generation, and twice
// with both slots at work.
func TestRealAnswers(t *testing.T) {
	read := func(name string) []byte {
		body, err := os.ReadFile(filepath.Join("testdata", "answers", "llamacpp-0.7.0-"+name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		return body
	}
	a, _ := engine.For(engine.LlamaCpp)
	if err := a.Generated(read("completion")); err != nil {
		t.Errorf("a generation: %v", err)
	}
	if mark, err := a.Progress(read("slots-fresh")); err == nil {
		t.Errorf("slots that were never used tell %q", mark)
	}
	marks := map[string]string{}
	for name, busy := range map[string]int{"slots-idle": 0, "slots-busy-1": 2, "slots-busy-2": 2} {
		mark, err := a.Progress(read(name))
		if err != nil || marks[mark] != "" {
			t.Errorf("%s: %q, as of %q, %v", name, mark, marks[mark], err)
		}
		marks[mark] = name
		if n, err := a.Busy(read(name)); n != busy || err != nil {
			t.Errorf("%s: %d busy, %v; want %d", name, n, err, busy)
		}
	}
}
