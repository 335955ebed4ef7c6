package tinymodel

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// The shape of the model in a directory. Attention of 64 numbers a head is what the kernels of
// PyTorch's engines all have.
const (
	dirHidden  = 128
	dirHeads   = 2
	dirHead    = dirHidden / dirHeads
	dirFF      = 256
	dirContext = 4096
	dirBegin   = 256 // token: the 256 bytes come before it
	dirEnd     = 257
	dirTokens  = 258
)

// WriteDirectory writes a model as the engines of Python load it: a directory with random weights
// in the safetensors format, configuration and tokenizer. Equal seeds give equal files. A token is
// a byte, and a request that ignores the end of the text gets as many as it asks for.
func WriteDirectory(dir string, seed uint64) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write a model: %w", err)
	}
	weights, err := safetensors(rand.New(rand.NewPCG(seed, 0)))
	if err != nil {
		return fmt.Errorf("write a model: %w", err)
	}
	files := map[string][]byte{"model.safetensors": weights}
	for name, value := range map[string]any{
		"config.json": map[string]any{
			"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "torch_dtype": "float32",
			"hidden_size": dirHidden, "num_attention_heads": dirHeads, "num_key_value_heads": dirHeads,
			"head_dim": dirHead, "intermediate_size": dirFF, "num_hidden_layers": layers, "vocab_size": dirTokens,
			"max_position_embeddings": dirContext, "hidden_act": "silu", "rms_norm_eps": 1e-5,
			"rope_theta": 10000.0, "tie_word_embeddings": false, "attention_bias": false,
			"bos_token_id": dirBegin, "eos_token_id": dirEnd,
		},
		"generation_config.json": map[string]any{"bos_token_id": dirBegin, "eos_token_id": dirEnd},
		"tokenizer.json":         byteTokenizer(),
		"tokenizer_config.json": map[string]any{
			"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>",
			"model_max_length": dirContext, "clean_up_tokenization_spaces": false,
			"chat_template": "{% for m in messages %}{{ m['content'] }}\n{% endfor %}",
		},
	} {
		if files[name], err = json.MarshalIndent(value, "", "  "); err != nil {
			return fmt.Errorf("write a model: %s: %w", name, err)
		}
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			return fmt.Errorf("write a model: %w", err)
		}
	}
	return nil
}

// byteTokenizer is a tokenizer of Hugging Face's library without merges: a token for each byte, two
// special ones behind them.
func byteTokenizer() map[string]any {
	vocab := make(map[string]int, dirTokens)
	next := rune(256)
	for b := range rune(256) {
		// GPT-2 writes bytes that are no printable Latin-1 character as U+0100 and those after it.
		c := b
		if !(b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae) {
			c, next = next, next+1
		}
		vocab[string(c)] = int(b)
	}
	vocab["<s>"], vocab["</s>"] = dirBegin, dirEnd
	special := func(id int, text string) map[string]any {
		return map[string]any{"id": id, "content": text, "special": true, "single_word": false, "lstrip": false,
			"rstrip": false, "normalized": false}
	}
	level := map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}
	return map[string]any{
		"version": "1.0", "normalizer": nil, "pre_tokenizer": level, "decoder": level, "post_processor": nil,
		"added_tokens": []any{special(dirBegin, "<s>"), special(dirEnd, "</s>")},
		"model":        map[string]any{"type": "BPE", "vocab": vocab, "merges": []string{}},
	}
}

// safetensors returns random weights of a llama by their names in Hugging Face's library. The
// format is the length of a header, the header in JSON, and the numbers, little-endian
// (https://huggingface.co/docs/safetensors).
func safetensors(random *rand.Rand) ([]byte, error) {
	header := map[string]any{"__metadata__": map[string]string{"format": "pt"}}
	var data []byte
	add := func(name string, shape ...int) {
		begin, n := len(data), 1
		for _, d := range shape {
			n *= d
		}
		for range n {
			v := float32(1) // of a norm
			if len(shape) > 1 {
				v = small(random)
			}
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
		}
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{begin, len(data)}}
	}
	add("model.embed_tokens.weight", dirTokens, dirHidden)
	for layer := range layers {
		part := fmt.Sprintf("model.layers.%d.", layer)
		for _, name := range []string{"q", "k", "v", "o"} {
			add(part+"self_attn."+name+"_proj.weight", dirHidden, dirHidden)
		}
		add(part+"mlp.gate_proj.weight", dirFF, dirHidden)
		add(part+"mlp.up_proj.weight", dirFF, dirHidden)
		add(part+"mlp.down_proj.weight", dirHidden, dirFF)
		add(part+"input_layernorm.weight", dirHidden)
		add(part+"post_attention_layernorm.weight", dirHidden)
	}
	add("model.norm.weight", dirHidden)
	add("lm_head.weight", dirTokens, dirHidden)
	text, err := json.Marshal(header)
	if err != nil {
		return nil, err
	}
	text = append(text, bytes.Repeat([]byte(" "), -len(text)&7)...) // so that the numbers are aligned
	out := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	return append(append(out, text...), data...), nil
}
