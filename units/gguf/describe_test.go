package gguf

import (
	"context"
	"strings"
	"testing"
)

func TestDescribe(t *testing.T) {
	const none, one, two = uint64(0), uint64(1), uint64(2)
	architecture := []any{"general.architecture", 8, "llama"}
	with := func(pairs uint64, parts ...any) string {
		return file(append(append([]any{3, none, one + pairs}, architecture...), parts...)...)
	}
	long := strings.Repeat("x", maxText+1)
	cases := []struct {
		name, header string
		want         Model
	}{
		{"an_architecture_alone", with(0), Model{Architecture: "llama"}},
		{"nothing", file(3, none, none), Model{}},
		{"its_file_type", with(1, "general.file_type", 4, 15), Model{Architecture: "llama", Quantization: "Q4_K_M"}},
		{"a_guessed_file_type", with(1, "general.file_type", 4, 1024+32), Model{Architecture: "llama", Quantization: "BF16"}},
		{"an_unknown_file_type", with(1, "general.file_type", 4, 999), Model{Architecture: "llama"}},
		{"a_file_type_that_is_no_number", with(1, "general.file_type", 8, "Q4"), Model{Architecture: "llama"}},
		{"its_context", with(1, "llama.context_length", 4, 8192), Model{Architecture: "llama", Trained: 8192}},
		{"the_context_of_another_architecture", with(1, "qwen3.context_length", 4, 8192), Model{Architecture: "llama"}},
		{"a_context_below_zero", with(1, "llama.context_length", 5, -1), Model{Architecture: "llama"}},
		{"a_short_template", with(1, "tokenizer.chat_template", 8, "{{x}}"), Model{Architecture: "llama", ChatTemplate: true}},
		{"a_template_that_is_too_long_to_be_kept", with(1, "tokenizer.chat_template", 8, long),
			Model{Architecture: "llama", ChatTemplate: true}},
		{"pooled_to_a_vector", with(1, "llama.pooling_type", 4, 1), Model{Architecture: "llama", Embedding: true}},
		{"not_pooled", with(1, "llama.pooling_type", 4, 0), Model{Architecture: "llama"}},
		{"pooled_to_a_rank", with(1, "llama.pooling_type", 4, 4), Model{Architecture: "llama", Rank: true}},
		{"not_causal", with(1, "llama.attention.causal", 7, []byte{0}), Model{Architecture: "llama", Embedding: true}},
		{"weights", file(3, two, none, "a", 2, uint64(4), uint64(3), 0, none, "b", 1, uint64(5), 0, uint64(64)),
			Model{Elements: 17}},
		{"weights_beyond_any_model", file(3, one, none, "a", 2, uint64(1<<40), uint64(1<<20), 141, none), Model{}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h, err := Read(context.Background(), strings.NewReader(c.header), 1<<62)
			if err != nil {
				t.Fatal(err)
			}
			if got := h.Describe(); got != c.want {
				t.Errorf("= %+v, want %+v", got, c.want)
			}
		})
	}
}
