package tinymodel

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
)

// adapterRank is the inner size of an adapter's two matrices.
const adapterRank = 4

// EncodeAdapter writes a LoRA adapter for the model to w, as llama.cpp's convert_lora_to_gguf.py
// names its parts: two matrices for the queries of each layer.
func EncodeAdapter(w io.Writer, seed uint64) error {
	out := bufio.NewWriter(w)
	e := &encoder{out: out}
	var tensors []tensor
	for layer := range layers {
		name := fmt.Sprintf("blk.%d.attn_q.weight.lora_", layer)
		tensors = append(tensors, tensor{name + "a", embedding, adapterRank, fillRandom},
			tensor{name + "b", adapterRank, embedding, fillRandom})
	}
	e.header(len(tensors), []pair{{"general.type", "adapter"}, {"general.architecture", "llama"},
		{"adapter.type", "lora"}, {"adapter.lora.alpha", float32(1)}})
	e.tensorInfos(tensors)
	random := rand.New(rand.NewPCG(seed, adapterRank))
	for _, t := range tensors {
		e.pad()
		t.fill(e, random, t)
	}
	if e.err != nil {
		return e.err
	}
	return out.Flush()
}
