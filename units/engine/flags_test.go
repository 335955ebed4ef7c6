package engine_test

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestSpellings: a flag is recognised in each spelling that its engine's parser takes, and in no
// other.
func TestSpellings(t *testing.T) {
	for _, c := range []struct {
		name, kind string
		args       []string
		want       string // of the only refusal; "": there is none
	}{
		{"llamacpp/underscores", engine.LlamaCpp, []string{"--reuse_port"}, "args[0] is --reuse-port, which lets two engines listen"},
		{"llamacpp/underscores_of_a_router", engine.LlamaCpp, []string{"--jinja", "--models_dir", "/m"}, "args[1] is --models-dir"},
		{"llamacpp/underscores_of_a_value", engine.LlamaCpp, []string{"--ctx_size", "4096"}, "args[0] is --ctx-size"},
		{"llamacpp/is_not_shortened", engine.LlamaCpp, []string{"--reuse"}, ""},
		{"llamacpp/a_file_behind_a_sign", engine.LlamaCpp, []string{"--chat_template_file=/x.jinja"},
			"args[0] is --chat_template_file=/x.jinja, and llama-server reads no value behind an equals sign"},
		{"llamacpp/what_is_written_behind_a_sign", engine.LlamaCpp, []string{"--log-file=x.log"}, "reads no value behind an equals sign"},
		{"llamacpp/another_value_behind_a_sign", engine.LlamaCpp, []string{"--word=x"}, ""},
		{"vllm/shortened", engine.VLLM, []string{"--max-num-s", "4"}, "args[0] is --max-num-s, short for --max-num-seqs, which pool-managerd sets"},
		{"vllm/shortened_with_a_value", engine.VLLM, []string{"--hos=0.0.0.0"}, "args[0] is --hos, short for --host"},
		{"vllm/shortened_with_underscores", engine.VLLM, []string{"--max_model", "4096"}, "short for --max-model-len"},
		{"vllm/too_short", engine.VLLM, []string{"--h", "x"}, ""},
		{"vllm/another_option_that_begins_so", engine.VLLM, []string{"--hosts", "x"}, ""},
		{"sglang/shortened", engine.SGLang, []string{"--mem-fraction", "0.5", "--por", "80"}, "args[2] is --por, short for --port"},
		{"sglang/underscores_are_no_dashes", engine.SGLang, []string{"--context_length", "1"}, ""},
		{"triton/shortened", engine.Triton, []string{"--http-po=80"}, "args[0] is --http-po, short for --http-port"},
		{"tgi/is_not_shortened", engine.TGI, []string{"--hostn", "x"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a, _ := engine.For(c.kind)
			refused := a.Check(wanted(c.kind, c.args...))
			if c.want == "" && len(refused) == 0 {
				return
			}
			if len(refused) != 1 || !strings.Contains(refused[0].Message, c.want) || c.want == "" {
				t.Errorf("%v, want %q", refused, c.want)
			}
		})
	}
}

// TestSpellingsOfValues: what an adapter reads of the arguments it reads in each of those
// spellings too.
func TestSpellingsOfValues(t *testing.T) {
	llama := func(args ...string) pool.Pool { return wanted(engine.LlamaCpp, args...) }
	if got := strings.Join(engine.AgentTools(llama("--tools_runtime", "x", "--mcp_servers_json", "{}")), " "); got !=
		"--mcp-servers-json --tools-runtime" {
		t.Errorf("tools: %q", got)
	}
	a, _ := engine.For(engine.LlamaCpp)
	if below := engine.Below(engine.Served(a, llama("--api_prefix", "/x"))); below != "/x" {
		t.Errorf("prefix: %q", below)
	}
	got := engine.Brought(llama("--chat_template_file", "/x.jinja", "--lora_scaled", "/a.gguf:0.5,/b.gguf:1"))
	if len(got) != 3 || got[0].Path != "/x.jinja" || got[2].Path != "/b.gguf" {
		t.Errorf("files: %+v", got)
	}
	line := strings.Join(a.Command(llama("--n_gpu_layers", "3"), at("0")).Args, " ")
	if strings.Contains(line, "-ngl") {
		t.Errorf("layers: %q", line)
	}
	vllm, _ := engine.For(engine.VLLM)
	shortened := wanted(engine.VLLM, "--tensor-parallel", "1", "--served-model", "x")
	line = strings.Join(vllm.Command(shortened, at("0", "1")).Args, " ")
	if strings.Contains(line, "--tensor-parallel-size") || strings.Contains(line, "--served-model-name") {
		t.Errorf("split: %q", line)
	}
	if share := vllm.Claim(wanted(engine.VLLM, "--gpu-memory-util=0.3"), "").Share; share != 0.3 {
		t.Errorf("share: %v", share)
	}
}
