package provision

import (
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestStageDescribesTheModel(t *testing.T) {
	d := newDisk(t)
	path := d.file("m.gguf", tiny(t), 0o644)
	s := Stager{Store: d.store(), Log: slog.New(slog.DiscardHandler)}
	p := pool.Pool{ID: "a", Engine: engine.LlamaCpp, Model: pool.Model("file:" + path)}
	staged, err := s.Stage(context.Background(), p, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := staged.Model
	if m.Architecture != "llama" || m.Quantization != "F32" || m.CtxTrained != 512 || m.Workload != "completion" ||
		m.Parameters < 100_000 || m.Parameters > 200_000 {
		t.Errorf("%+v", m)
	}
}

func TestDescriptionsAreReadOnce(t *testing.T) {
	d := newDisk(t)
	m := model{path: d.dir}
	var known descriptions
	for _, c := range []struct{ config, contents, want string }{
		{"A", "1", "A"}, {"B", "1", "A"}, {"B", "2", "B"}, {"C", "", "C"}, {"D", "", "D"},
	} {
		d.file("config.json", `{"architectures":["`+c.config+`"]}`, 0o644)
		if got := known.get(context.Background(), m, c.contents).Architecture; got != c.want {
			t.Errorf("%v: %q", c, got)
		}
	}
}

func TestDescribeDirectory(t *testing.T) {
	const config, tokenizer, index = "config.json", "tokenizer_config.json", "model.safetensors.index.json"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  pool.Description
	}{
		{"nothing", nil, pool.Description{}},
		{"a_language_model", map[string]string{
			config:    `{"architectures":["Qwen3ForCausalLM"],"dtype":"bfloat16","max_position_embeddings":40960}`,
			tokenizer: `{"chat_template":"{{x}}"}`, index: `{"metadata":{"total_parameters":8190735360}}`},
			pool.Description{Architecture: "Qwen3ForCausalLM", Quantization: "BF16", CtxTrained: 40960, ChatTemplate: true,
				Parameters: 8190735360, Workload: "completion"}},
		{"the_older_name_of_the_type", map[string]string{config: `{"architectures":["LlamaForCausalLM"],"torch_dtype":"float16"}`},
			pool.Description{Architecture: "LlamaForCausalLM", Quantization: "F16", Workload: "completion"}},
		{"quantized", map[string]string{
			config: `{"architectures":["LlamaForCausalLM"],"dtype":"float16","quantization_config":{"quant_method":"awq"}}`},
			pool.Description{Architecture: "LlamaForCausalLM", Quantization: "awq", Workload: "completion"}},
		{"for_embeddings", map[string]string{config: `{"architectures":["BertModel"]}`},
			pool.Description{Architecture: "BertModel", Workload: "embedding"}},
		{"for_ranks", map[string]string{config: `{"architectures":["XLMRobertaForSequenceClassification"]}`},
			pool.Description{Architecture: "XLMRobertaForSequenceClassification", Workload: "rerank"}},
		{"a_template_in_a_file_of_its_own", map[string]string{
			config: `{"architectures":["GptOssForCausalLM"]}`, "chat_template.jinja": "{{x}}"},
			pool.Description{Architecture: "GptOssForCausalLM", ChatTemplate: true, Workload: "completion"}},
		{"no_template", map[string]string{config: `{"architectures":["GptOssForCausalLM"]}`, tokenizer: `{"chat_template":null}`},
			pool.Description{Architecture: "GptOssForCausalLM", Workload: "completion"}},
		{"no_json", map[string]string{config: `<html>`}, pool.Description{}},
		{"another_type_of_value", map[string]string{config: `{"architectures":"x"}`}, pool.Description{}},
		{"a_context_that_is_no_number", map[string]string{config: `{"architectures":["ACausal"],"max_position_embeddings":[1]}`},
			pool.Description{Architecture: "ACausal", Workload: "embedding"}},
		{"a_hostile_name", map[string]string{config: `{"architectures":["\u001b[31m"],"dtype":"` + strings.Repeat("x", 99) + `"}`},
			pool.Description{Workload: "completion"}},
		{"too_large", map[string]string{config: `{"architectures":["A"]}` + strings.Repeat(" ", maxDescription)}, pool.Description{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDisk(t)
			for name, text := range c.files {
				d.file(name, text, 0o644)
			}
			if got := describe(context.Background(), model{path: d.dir}); got != c.want {
				t.Errorf("= %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestADescriptionThatIsAPipe(t *testing.T) {
	d := newDisk(t)
	if err := unix.Mkfifo(d.path("config.json"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := describe(context.Background(), model{path: d.dir}); got != (pool.Description{}) {
		t.Errorf("%+v", got)
	}
}

func FuzzDescribeDirectory(f *testing.F) {
	f.Add([]byte(`{"architectures":["A"],"dtype":"bfloat16","max_position_embeddings":1}`))
	f.Add([]byte(`{"architectures":["\u0000"],"quantization_config":{"quant_method":"x y"}}`))
	dir := f.TempDir()
	f.Fuzz(mutate.Many(func(t *testing.T, text []byte) {
		if err := os.WriteFile(dir+"/config.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		m := describeDirectory(dir)
		for _, word := range []string{m.Architecture, m.Quantization} {
			if len(word) > maxDescribed || strings.ContainsAny(word, " \x1b\n\x00") {
				t.Errorf("%q", word)
			}
		}
		if m.CtxTrained < 0 || m.CtxTrained > maxCtx {
			t.Errorf("a context of %d", m.CtxTrained)
		}
	}))
}
