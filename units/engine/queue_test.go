package engine_test

import (
	"slices"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
)

func TestQueue(t *testing.T) {
	const none = -1 // it cannot be read
	for _, c := range []struct {
		name, kind, body string
		want             int
	}{
		{"llamacpp_deferred_only", engine.LlamaCpp, "llamacpp:requests_processing 4\n# HELP llamacpp:requests_deferred x\nllamacpp:requests_deferred 2\n", 2},
		{"llamacpp_nothing_waits", engine.LlamaCpp, "llamacpp:requests_deferred 0\n", 0},
		{"llamacpp_without_the_counter", engine.LlamaCpp, "llamacpp:requests_processing 4\n", none},
		{"vllm_waiting_only", engine.VLLM, "vllm:num_requests_running{model_name=\"m\"} 3.0\nvllm:num_requests_waiting{model_name=\"m\"} 5.0\n", 5},
		{"vllm_sums_its_engines", engine.VLLM, "vllm:num_requests_waiting{engine=\"0\"} 1.0\nvllm:num_requests_waiting{engine=\"1\"} 2.0\n", 3},
		{"tgi", engine.TGI, "tgi_queue_size 7\ntgi_batch_current_size 1\n", 7},
		{"triton_publishes_it_elsewhere", engine.Triton, "nv_inference_pending_request_count 1\n", none},
		{"command", engine.Program, "anything 1\n", none},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := engine.For(c.kind)
			n, err := a.Queue([]byte(c.body))
			if err != nil {
				n = none
			}
			if n != c.want {
				t.Errorf("= %d, %v; want %d", n, err, c.want)
			}
			if (a.QueuePath() == "") != (c.kind == engine.Triton || c.kind == engine.Program) {
				t.Errorf("asked at %q", a.QueuePath())
			}
		})
	}
}

func TestWorkloads(t *testing.T) {
	for _, c := range []struct {
		kind string
		args []string
		want []string
	}{
		{engine.LlamaCpp, nil, []string{engine.WorkCompletion}},
		{engine.LlamaCpp, []string{"--embeddings", "--pooling", "mean"}, []string{engine.WorkEmbedding}},
		{engine.LlamaCpp, []string{"--embedding", "--reranking"}, []string{engine.WorkRerank}},
		{engine.LlamaCpp, []string{"--embeddings", "--pooling", "rank"}, []string{engine.WorkRerank}},
		{engine.LlamaCpp, []string{"--pooling", "rank"}, []string{engine.WorkCompletion}},
		{engine.VLLM, nil, []string{engine.WorkCompletion}},
		{engine.VLLM, []string{"--task=embed"}, []string{engine.WorkEmbedding}},
		{engine.VLLM, []string{"--runner", "pooling", "--convert", "embed"}, []string{engine.WorkEmbedding}},
		{engine.VLLM, []string{"--task", "score"}, []string{engine.WorkRerank}},
		{engine.VLLM, []string{"--task", "generate"}, []string{engine.WorkCompletion}},
		{engine.VLLM, []string{"--runner", "pooling"}, nil},
		{engine.SGLang, []string{"--is-embedding"}, []string{engine.WorkEmbedding}},
		{engine.TGI, nil, []string{engine.WorkCompletion}},
		{engine.Triton, nil, nil},
		{engine.Program, nil, nil},
	} {
		a, _ := engine.For(c.kind)
		if got := a.Workloads(wanted(c.kind, c.args...)); !slices.Equal(got, c.want) {
			t.Errorf("%s %q: %v, want %v", c.kind, c.args, got, c.want)
		}
	}
	a, _ := engine.For(engine.LlamaCpp)
	for variable, want := range map[string]string{"LLAMA_ARG_EMBEDDINGS": engine.WorkEmbedding,
		"LLAMA_ARG_RERANKING": engine.WorkRerank} {
		p := wanted(engine.LlamaCpp)
		p.Env = map[string]string{variable: "1"}
		if got := a.Workloads(p); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v, want %s", variable, got, want)
		}
	}
}
