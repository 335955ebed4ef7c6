package engine_test

import (
	"slices"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestBrought: the files that known options and variables name are found, in each form in which an
// engine takes them; what is no file is left alone.
func TestBrought(t *testing.T) {
	file := func(key, flag, path string) engine.File { return engine.File{Key: key, Flag: flag, Path: path} }
	weights := func(key, flag, path string) engine.File {
		return engine.File{Key: key, Flag: flag, Path: path, Weights: true}
	}
	cases := []struct {
		name, kind string
		args       []string
		env        map[string]string
		want       []engine.File
	}{
		{"llamacpp/nothing", engine.LlamaCpp, []string{"--jinja", "--chat-template", "/no/file", "--mmproj"}, nil, nil},
		{"llamacpp/each", engine.LlamaCpp, []string{"--chat-template-file", "/a.jinja", "--grammar-file", "/b", "-jf", "/c",
			"-lcs", "/d", "--path", "/e/"}, nil, []engine.File{
			file("args[1]", "--chat-template-file", "/a.jinja"), file("args[3]", "--grammar-file", "/b"),
			file("args[5]", "-jf", "/c"), file("args[7]", "-lcs", "/d"), file("args[9]", "--path", "/e")}},
		{"llamacpp/weights", engine.LlamaCpp, []string{"-mm", "/a", "-md", "/b", "-mv", "/c"}, nil, []engine.File{
			weights("args[1]", "-mm", "/a"), weights("args[3]", "-md", "/b"), weights("args[5]", "-mv", "/c")}},
		{"llamacpp/several_adapters", engine.LlamaCpp, []string{"--lora", "/a,/b", "--lora", "/c"}, nil, []engine.File{
			weights("args[1]", "--lora", "/a"), weights("args[1]", "--lora", "/b"), weights("args[3]", "--lora", "/c")}},
		{"llamacpp/scales", engine.LlamaCpp, []string{"--lora-scaled", "/a:0.5,/b:1", "--control-vector-scaled", "/c:x", "2"},
			nil, []engine.File{weights("args[1]", "--lora-scaled", "/a"), weights("args[1]", "--lora-scaled", "/b"),
				weights("args[3]", "--control-vector-scaled", "/c:x")}},
		{"llamacpp/equals", engine.LlamaCpp, []string{"--mmproj=/a"}, nil, []engine.File{weights("args[0]", "--mmproj", "/a")}},
		{"llamacpp/relative", engine.LlamaCpp, []string{"--mmproj", "a.gguf"}, nil,
			[]engine.File{weights("args[1]", "--mmproj", "a.gguf")}},
		{"llamacpp/variables", engine.LlamaCpp, nil, map[string]string{"LLAMA_ARG_MMPROJ": "/a",
			"LLAMA_ARG_CHAT_TEMPLATE_FILE": "/b", "LLAMA_ARG_SPEC_DRAFT_MODEL": ""}, []engine.File{
			weights("env.LLAMA_ARG_MMPROJ", "LLAMA_ARG_MMPROJ", "/a"),
			file("env.LLAMA_ARG_CHAT_TEMPLATE_FILE", "LLAMA_ARG_CHAT_TEMPLATE_FILE", "/b")}},
		{"llamacpp/once", engine.LlamaCpp, []string{"--grammar-file", "/a", "--lora", "//a"}, nil,
			[]engine.File{{Key: "args[1]", Flag: "--grammar-file", Path: "/a", Weights: true}}},
		{"vllm/template_or_text", engine.VLLM, []string{"--chat-template", "{% if x %}/a{% endif %}", "--chat_template=/b.jinja"},
			nil, []engine.File{file("args[2]", "--chat-template", "/b.jinja")}},
		{"vllm/a_name_is_no_path", engine.VLLM, []string{"--tokenizer", "org/name", "--generation-config", "auto"}, nil, nil},
		{"vllm/adapters", engine.VLLM, []string{"--lora-modules", "a=/x", `{"name": "b", "path": "/y"}`, "c=org/z", "--seed", "1"},
			nil, []engine.File{weights("args[1]", "--lora-modules", "/x"), weights("args[2]", "--lora-modules", "/y")}},
		{"vllm/a_list_of_adapters", engine.VLLM, []string{`--lora-modules=[{"path": "/x"}, {"path": "/y"}]`}, nil,
			[]engine.File{weights("args[0]", "--lora-modules", "/x"), weights("args[0]", "--lora-modules", "/y")}},
		{"vllm/speculation", engine.VLLM, []string{"--speculative-config", `{"model": "/d", "num_speculative_tokens": 3}`,
			"--speculative-config.model", "/e", "--tokenizer", "/t"}, nil, []engine.File{
			weights("args[1]", "--speculative-config", "/d"), weights("args[3]", "--speculative-config.model", "/e"),
			{Key: "args[5]", Flag: "--tokenizer", Path: "/t", Model: true}}},
		{"sglang/template_adapters_and_draft", engine.SGLang, []string{"--chat-template", "/a.jinja", "--lora-paths", "x=/x", "/y", "--speculative-draft-model-path", "/d"},
			nil, []engine.File{file("args[1]", "--chat-template", "/a.jinja"), weights("args[3]", "--lora-paths", "/x"),
				weights("args[4]", "--lora-paths", "/y"), weights("args[6]", "--speculative-draft-model-path", "/d")}},
		{"trtllm/options_and_template", engine.TRTLLM, []string{"--extra_llm_api_options", "/o.yaml", "--chat_template", "/a.jinja", "--tokenizer", "org/name"},
			nil, []engine.File{file("args[1]", "--extra-llm-api-options", "/o.yaml"), file("args[3]", "--chat-template", "/a.jinja")}},
		{"vllm/bad_json", engine.VLLM, []string{"--speculative-config", `{"model": `}, nil, nil},
		{"tgi/adapters", engine.TGI, []string{"--lora-adapters", "a=/x,b=org/y,/z"}, nil, []engine.File{
			weights("args[1]", "--lora-adapters", "/x"), weights("args[1]", "--lora-adapters", "/z")}},
		{"triton/backends", engine.Triton, []string{"--backend-directory=/b"}, nil,
			[]engine.File{file("args[0]", "--backend-directory", "/b")}},
		{"command/its_arguments_are_its_own", engine.Program, []string{"--mmproj", "/a"}, nil, nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := pool.Pool{Engine: c.kind, Args: c.args, Env: c.env}
			if got := engine.Brought(p); !slices.Equal(got, c.want) {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
			p.Files = []string{"/first/"}
			if got := engine.Brought(p); len(got) != len(c.want)+1 || got[0] != file("files[0]", "", "/first") {
				t.Errorf("with files: %+v", got)
			}
			p.Provisioning.Mode = pool.ModeExternal
			if got := engine.Brought(p); len(got) > 0 {
				t.Errorf("an engine of another program brings %v", got)
			}
		})
	}
}
