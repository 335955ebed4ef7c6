package gguf

import (
	"strings"
)

// Model is what a file says of the model in it. A field is its zero value where it does not.
type Model struct {
	Architecture string
	Quantization string // Q4_K_M, of the most weights
	Elements     uint64 // of the tensors of this file
	Trained      uint64 // tokens of context that it was trained for
	ChatTemplate bool
	Embedding    bool // its states are pooled to one vector, or are not causal
	Rank         bool // they are pooled to one number
}

// Describe reads a header's description of the model.
func (h Header) Describe() Model {
	m := Model{Architecture: h.Text("general.architecture")}
	if kind, ok := h.number("general.file_type"); ok {
		m.Quantization = fileTypes[kind&^guessed]
	}
	m.Trained, _ = h.number(m.Architecture + ".context_length")
	m.ChatTemplate = h.has("tokenizer.chat_template")
	if pooling, ok := h.number(m.Architecture + ".pooling_type"); ok {
		m.Embedding, m.Rank = pooling != poolingNone && pooling != poolingRank, pooling == poolingRank
	} else if causal, ok := h.value(m.Architecture + ".attention.causal").(bool); ok {
		m.Embedding = !causal
	}
	for _, t := range h.Tensors {
		m.Elements += t.elements()
	}
	return m
}

// Pooling types of llama.cpp (llama_pooling_type in llama.h).
const (
	poolingNone = 0
	poolingRank = 4
)

// guessed is a bit of general.file_type: the file did not say so itself.
const guessed = 1024

// fileTypes are the names of general.file_type (llama_ftype in llama.h), without "MOSTLY_".
var fileTypes = map[uint64]string{
	0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
	12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
	19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
	26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16", 36: "TQ1_0",
	37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0", 41: "Q2_0",
}

// elements is the number of a tensor's weights; 0 where the product is beyond any model.
func (t Tensor) elements() uint64 {
	n := uint64(1)
	for _, d := range t.Dims {
		if d == 0 || n > maxElements/d {
			return 0
		}
		n *= d
	}
	return n
}

// maxElements is above the weights of any model.
const maxElements = 1 << 50

// Text returns the value of a key that is a string; empty where there is none.
func (h Header) Text(key string) string {
	text, _ := h.value(key).(string)
	return strings.ToValidUTF8(text, "")
}

func (h Header) value(key string) any {
	for _, p := range h.Pairs {
		if p.Key == key {
			return p.Value
		}
	}
	return nil
}

// has reports whether there is such a key, whatever its length.
func (h Header) has(key string) bool {
	for _, long := range h.Long {
		if long == key {
			return true
		}
	}
	return h.value(key) != nil
}

// number returns a value that is a whole number of any width and not negative.
func (h Header) number(key string) (uint64, bool) {
	switch v := h.value(key).(type) {
	case uint8:
		return uint64(v), true
	case uint16:
		return uint64(v), true
	case uint32:
		return uint64(v), true
	case uint64:
		return v, true
	case int32:
		return uint64(max(v, 0)), v >= 0
	case int64:
		return uint64(max(v, 0)), v >= 0
	}
	return 0, false
}
