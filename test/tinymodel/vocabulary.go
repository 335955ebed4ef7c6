package tinymodel

import "fmt"

// Token types of the SentencePiece vocabulary (llama.cpp, enum llama_token_type).
const (
	typeNormal  = 1
	typeUnknown = 2
	typeControl = 3
	typeByte    = 6
)

// The first tokens. 256 byte tokens come behind them, then the printable characters.
const (
	tokenUnknown = iota
	tokenBegin
	tokenEnd
	firstByte
	firstPrintable = firstByte + 256
)

// vocabulary is every token with its type: one that is unknown, begin and end of a text, each byte,
// and each printable ASCII character, the space as SentencePiece spells it.
func vocabulary() (tokens []string, types []int32) {
	add := func(token string, kind int32) {
		tokens, types = append(tokens, token), append(types, kind)
	}
	add("<unk>", typeUnknown)
	add("<s>", typeControl)
	add("</s>", typeControl)
	for b := range 256 {
		add(fmt.Sprintf("<0x%02X>", b), typeByte)
	}
	add("\u2581", typeNormal)
	for c := '!'; c <= '~'; c++ {
		add(string(c), typeNormal)
	}
	return tokens, types
}

// metadata is what llama.cpp wants to know of a model of architecture "llama" before its weights.
func metadata(ff int) []pair {
	tokens, types := vocabulary()
	return []pair{
		{"general.architecture", "llama"},
		{"general.name", "tiny-random"},
		{"general.file_type", uint32(0)}, // all F32
		{"llama.context_length", uint32(contextLength)},
		{"llama.embedding_length", uint32(embedding)},
		{"llama.block_count", uint32(layers)},
		{"llama.feed_forward_length", uint32(ff)},
		{"llama.attention.head_count", uint32(heads)},
		{"llama.attention.head_count_kv", uint32(heads)},
		{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)},
		{"llama.rope.dimension_count", uint32(embedding / heads)},
		{"llama.vocab_size", uint32(len(tokens))},
		{"tokenizer.ggml.model", "llama"},
		{"tokenizer.ggml.tokens", tokens},
		{"tokenizer.ggml.scores", make([]float32, len(tokens))},
		{"tokenizer.ggml.token_type", types},
		{"tokenizer.ggml.unknown_token_id", uint32(tokenUnknown)},
		{"tokenizer.ggml.bos_token_id", uint32(tokenBegin)},
		{"tokenizer.ggml.eos_token_id", uint32(tokenEnd)},
		{"tokenizer.ggml.add_bos_token", true},
	}
}
