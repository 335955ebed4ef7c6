package tinymodel

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// tensor is a matrix of weights: rows vectors of cols numbers, or one vector where rows is 0.
type tensor struct {
	name       string
	cols, rows int
	fill       func(e *encoder, random *rand.Rand, t tensor)
	shape      []int // of more than two dimensions, the one that changes fastest first; nil: cols and rows
}

// dimensions are what the file says of the tensor: those that change fastest first.
func (t tensor) dimensions() []int {
	switch {
	case t.shape != nil:
		return t.shape
	case t.rows == 0:
		return []int{t.cols}
	}
	return []int{t.cols, t.rows}
}

// elements is how many numbers the tensor has.
func (t tensor) elements() int { return t.cols * max(1, t.rows) }

// tensorsOf lists all weights by llama.cpp's names, in the order of the file.
func tensorsOf(ff int) []tensor {
	tokens, _ := vocabulary()
	list := []tensor{
		{name: "token_embd.weight", cols: embedding, rows: len(tokens), fill: fillEmbedding},
		{name: "output_norm.weight", cols: embedding, fill: fillOnes},
		{name: "output.weight", cols: embedding, rows: len(tokens), fill: fillOutput},
	}
	for layer := range layers {
		add := func(name string, cols, rows int) {
			fill := fillRandom
			if rows == 0 {
				fill = fillOnes
			}
			name = fmt.Sprintf("blk.%d.%s.weight", layer, name)
			list = append(list, tensor{name: name, cols: cols, rows: rows, fill: fill})
		}
		add("attn_norm", embedding, 0)
		add("attn_q", embedding, embedding)
		add("attn_k", embedding, embedding)
		add("attn_v", embedding, embedding)
		add("attn_output", embedding, embedding)
		add("ffn_norm", embedding, 0)
		add("ffn_gate", embedding, ff)
		add("ffn_up", embedding, ff)
		add("ffn_down", ff, embedding)
	}
	return list
}

// small is a random weight of at most 0.05.
func small(random *rand.Rand) float32 { return (random.Float32() - 0.5) * 0.1 }

// fillRandom keeps the sum over a wide row about as large as over the narrowest one, so that a wide
// layer does not drown the constant in the embedding.
func fillRandom(e *encoder, random *rand.Rand, t tensor) {
	scale := float32(math.Sqrt(feedForward / float64(max(feedForward, t.cols))))
	for range t.elements() {
		e.float32(small(random) * scale)
	}
}

// fillStrong has weights whose product is no small one.
func fillStrong(e *encoder, random *rand.Rand, t tensor) {
	for range t.elements() {
		e.float32(small(random) * 15)
	}
}

func fillOnes(e *encoder, _ *rand.Rand, t tensor) {
	for range t.elements() {
		e.float32(1)
	}
}

// The first number of each embedding is a constant that the layers barely change. The output layer
// weighs it against every token that is no printable character, so that none of these is ever
// chosen: the end of the text least of all.
const (
	constant  = 0.5
	forbidden = -40
)

func fillEmbedding(e *encoder, random *rand.Rand, t tensor) {
	for range t.rows {
		e.float32(constant)
		for range t.cols - 1 {
			e.float32(small(random) * 10)
		}
	}
}

func fillOutput(e *encoder, random *rand.Rand, t tensor) {
	for token := range t.rows {
		if token < firstPrintable {
			e.float32(forbidden)
		} else {
			e.float32(0)
		}
		for range t.cols - 1 {
			e.float32(small(random) * 15)
		}
	}
}

// fillPrintable changes what the output layer says of printable characters alone.
func fillPrintable(e *encoder, random *rand.Rand, t tensor) {
	for token := range t.rows {
		for range t.cols {
			weight := small(random) * 15
			if token < firstPrintable {
				weight = 0
			}
			e.float32(weight)
		}
	}
}
