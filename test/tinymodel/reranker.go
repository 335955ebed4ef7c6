package tinymodel

import (
	"fmt"
	"io"
)

// poolingRank is llama.cpp's number of the pooling type that makes a rank of a text.
const poolingRank = 4

// EncodeReranker writes a model to w that ranks documents for a query, of architecture "bert" with
// a classification head. Its words are printable characters.
func EncodeReranker(w io.Writer, seed uint64) error {
	tokens := []string{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"}
	types := []int32{typeControl, typeUnknown, typeControl, typeControl, typeControl}
	for c := '!'; c <= '~'; c++ {
		// a character at the beginning of a word, and one within it
		tokens, types = append(tokens, "\u2581"+string(c), string(c)), append(types, typeNormal, typeNormal)
	}
	var list parts
	list.matrix("token_embd", embedding, len(tokens))
	list.matrix("token_types", embedding, 2)
	list.matrix("position_embd", embedding, contextLength)
	list.norm("token_embd_norm", embedding)
	for layer := range layers {
		at := fmt.Sprintf("blk.%d.", layer)
		for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_output"} {
			list.linear(at+name, embedding, embedding)
		}
		list.norm(at+"attn_output_norm", embedding)
		list.linear(at+"ffn_up", embedding, feedForward)
		list.linear(at+"ffn_down", feedForward, embedding)
		list.norm(at+"layer_output_norm", embedding)
	}
	list.linear("cls", embedding, embedding)
	list.linear("cls.output", embedding, 1)
	return encodeParts(w, seed, []pair{
		{"general.architecture", "bert"}, {"general.name", "tiny-random-reranker"}, {"general.file_type", uint32(0)},
		{"bert.context_length", uint32(contextLength)}, {"bert.embedding_length", uint32(embedding)},
		{"bert.block_count", uint32(layers)}, {"bert.feed_forward_length", uint32(feedForward)},
		{"bert.attention.head_count", uint32(heads)}, {"bert.attention.layer_norm_epsilon", float32(1e-12)},
		{"bert.attention.causal", false}, {"bert.pooling_type", uint32(poolingRank)},
		{"bert.vocab_size", uint32(len(tokens))},
		{"tokenizer.ggml.model", "bert"}, {"tokenizer.ggml.pre", "default"}, {"tokenizer.ggml.tokens", tokens},
		{"tokenizer.ggml.token_type", types}, {"tokenizer.ggml.token_type_count", uint32(2)},
		{"tokenizer.ggml.padding_token_id", uint32(0)}, {"tokenizer.ggml.unknown_token_id", uint32(1)},
		{"tokenizer.ggml.bos_token_id", uint32(2)}, {"tokenizer.ggml.cls_token_id", uint32(2)},
		{"tokenizer.ggml.eos_token_id", uint32(3)}, {"tokenizer.ggml.seperator_token_id", uint32(3)},
		{"tokenizer.ggml.mask_token_id", uint32(4)},
	}, list)
}
