package tinymodel

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
)

// encodeParts writes a file of metadata and weights.
func encodeParts(w io.Writer, seed uint64, meta []pair, tensors []tensor) error {
	out := bufio.NewWriter(w)
	e := &encoder{out: out}
	e.header(len(tensors), meta)
	e.tensorInfos(tensors)
	random := rand.New(rand.NewPCG(seed, uint64(len(tensors))))
	for _, t := range tensors {
		e.pad()
		t.fill(e, random, t)
	}
	if e.err != nil {
		return e.err
	}
	return out.Flush()
}

// parts are the weights of a model, in the order of the file.
type parts []tensor

func (p *parts) add(t tensor) { *p = append(*p, t) }

// matrix adds weights that turn cols numbers into rows.
func (p *parts) matrix(name string, cols, rows int) {
	p.add(tensor{name: name + ".weight", cols: cols, rows: rows, fill: fillStrong})
}

func (p *parts) vector(name string, n int, fill func(*encoder, *rand.Rand, tensor)) {
	p.add(tensor{name: name, cols: n, fill: fill})
}

// linear adds a matrix and what is added to its result.
func (p *parts) linear(name string, cols, rows int) {
	p.matrix(name, cols, rows)
	p.vector(name+".bias", rows, fillRandom)
}

// norm adds the two vectors of a normalisation.
func (p *parts) norm(name string, n int) {
	p.vector(name+".weight", n, fillOnes)
	p.vector(name+".bias", n, fillRandom)
}

// adapterRank is the inner size of an adapter's two matrices.
const adapterRank = 4

// EncodeAdapter writes a LoRA adapter for the model to w, as llama.cpp's convert_lora_to_gguf.py
// names its parts: two matrices for the queries of each layer, and two for the output, so that the
// model chooses other tokens with it.
func EncodeAdapter(w io.Writer, seed uint64) error {
	tokens, _ := vocabulary()
	tensors := []tensor{
		{name: "output.weight.lora_a", cols: embedding, rows: adapterRank, fill: fillStrong},
		{name: "output.weight.lora_b", cols: adapterRank, rows: len(tokens), fill: fillPrintable},
	}
	for layer := range layers {
		name := fmt.Sprintf("blk.%d.attn_q.weight.lora_", layer)
		tensors = append(tensors, tensor{name: name + "a", cols: embedding, rows: adapterRank, fill: fillRandom},
			tensor{name: name + "b", cols: adapterRank, rows: embedding, fill: fillRandom})
	}
	return encodeParts(w, seed, []pair{{"general.type", "adapter"}, {"general.architecture", "llama"},
		{"adapter.type", "lora"}, {"adapter.lora.alpha", float32(adapterRank)}}, tensors)
}

// The shape of the projector: an image of 32 × 32 pixels is 16 patches, four of which make a token.
const (
	imageSize   = 32
	patchSize   = 8
	patches     = (imageSize / patchSize) * (imageSize / patchSize)
	patchMerge  = 2
	imageTokens = patches / (patchMerge * patchMerge)
)

// ImageTokens is how many tokens an image has by the projector.
const ImageTokens = imageTokens

// EncodeProjector writes a projector for the model to w: an encoder of images with one layer, whose
// result has the model's embedding length, in the form of Gemma 3's.
func EncodeProjector(w io.Writer, seed uint64) error {
	var list parts
	list.add(tensor{name: "v.patch_embd.weight", cols: patchSize * patchSize, rows: 3 * embedding,
		shape: []int{patchSize, patchSize, 3, embedding}, fill: fillRandom})
	list.vector("v.patch_embd.bias", embedding, fillRandom)
	list.matrix("v.position_embd", embedding, patches)
	for _, name := range []string{"attn_q", "attn_k", "attn_v", "attn_out"} {
		list.linear("v.blk.0."+name, embedding, embedding)
	}
	list.linear("v.blk.0.ffn_up", embedding, feedForward)
	list.linear("v.blk.0.ffn_down", feedForward, embedding)
	for _, name := range []string{"v.blk.0.ln1", "v.blk.0.ln2", "v.post_ln"} {
		list.norm(name, embedding)
	}
	list.matrix("mm.input_projection", embedding, embedding)
	list.vector("mm.soft_emb_norm.weight", embedding, fillOnes)
	middle := []float32{0.5, 0.5, 0.5}
	return encodeParts(w, seed, []pair{
		{"general.architecture", "clip"}, {"general.file_type", uint32(0)},
		{"clip.has_vision_encoder", true}, {"clip.projector_type", "gemma3"}, {"clip.use_gelu", true},
		{"clip.vision.image_size", uint32(imageSize)}, {"clip.vision.patch_size", uint32(patchSize)},
		{"clip.vision.embedding_length", uint32(embedding)}, {"clip.vision.feed_forward_length", uint32(feedForward)},
		{"clip.vision.block_count", uint32(1)}, {"clip.vision.projection_dim", uint32(embedding)},
		{"clip.vision.attention.head_count", uint32(heads)},
		{"clip.vision.attention.layer_norm_epsilon", float32(1e-6)},
		{"clip.vision.projector.scale_factor", uint32(patchMerge)},
		{"clip.vision.image_mean", middle}, {"clip.vision.image_std", middle},
	}, list)
}
