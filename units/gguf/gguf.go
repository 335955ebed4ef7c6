// Package gguf reads the header of a model file in GGUF (docs/gguf.md in the ggml repository): its
// metadata, and the table of its tensors. It reads no weights.
//
// It owns the format and the bounds of a file's values. It must not know what a model
// needs, or what an engine does with it.
package gguf

import (
	"context"
	"errors"
	"io"
	"math"
)

// Magic begins every file of the format.
const Magic = "GGUF"

// Bounds of what is read. They are far above those of real models, and keep a file that was made to
// hurt from taking the manager's memory or time: a sparse file can be as long as its counts claim.
const (
	MaxHeader  = 64 << 20 // bytes; the vocabulary of known models takes up to some ten megabytes
	maxPairs   = 4096
	maxTensors = 16384
	maxName    = 256  // of a key or tensor, in bytes; ggml takes 64 for a tensor's
	maxText    = 4096 // of a value that is kept; chat templates are longer
	maxItems   = 4096 // of an array that is kept: one for each layer at most
	maxDims    = 4    // GGML_MAX_DIMS
	maxDepth   = 4    // of arrays in arrays, which no known model has
)

var (
	// ErrShort is returned if the file ends before its contents: it is certainly cut off.
	ErrShort = errors.New("the file ends before its contents do")
	// ErrStrange is returned if the header is unknown, or exceeds a bound. The file may still be
	// good.
	ErrStrange = errors.New("the header is not understood")
)

// Header is a file's description of itself.
type Header struct {
	Version uint32
	Pairs   []Pair   // in the order of the file, without what is too long to be kept
	Long    []string // keys of the pairs that are too long
	Tensors []Tensor
	Bytes   uint64 // of the header; the tensors' data begin at the next multiple of Align
	Align   uint64
}

// Pair is one key of the metadata. Value is a number of the type's width, a bool, a string, or an
// Array.
type Pair struct {
	Key   string
	Type  Type
	Value any
}

// Array is a list of values. Items is nil where they were passed over: texts, arrays, and long
// lists.
type Array struct {
	Type   Type
	Len    uint64
	Items  []any
	Offset uint64 // of the items, from the beginning of the file
	Bytes  uint64
}

// Tensor is an entry of the table.
type Tensor struct {
	Name   string
	Dims   []uint64
	Type   uint32 // ggml_type
	Offset uint64 // from the beginning of the data
	At     uint64 // of the entry, from the beginning of the file
}

// Type is gguf_metadata_value_type of the specification.
type Type uint32

// The types.
const (
	Uint8 Type = iota
	Int8
	Uint16
	Int16
	Uint32
	Int32
	Float32
	Bool
	String
	List
	Uint64
	Int64
	Float64
)

// width is the width of a type in bytes, 0 for those of no fixed one.
func (t Type) width() uint64 {
	widths := [...]uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}
	if int(t) >= len(widths) {
		return 0
	}
	return widths[t]
}

// Length returns the minimum length of the file by its own table of tensors; ok is false if the
// table's numbers are invalid.
func (h Header) Length() (n uint64, ok bool) {
	if len(h.Tensors) == 0 {
		return h.Bytes, true
	}
	var end uint64
	for _, t := range h.Tensors {
		elements := uint64(1)
		for _, d := range t.Dims {
			if d != 0 && elements > math.MaxUint64/d {
				return 0, false
			}
			elements *= d
		}
		end = max(end, sum(t.Offset, tensorBytes(t.Type, elements)))
	}
	return sum((h.Bytes+h.Align-1)/h.Align*h.Align, end), true
}

// Check returns ErrShort for a file that is certainly cut off, with its minimum length if known
// (else 0). It returns 0 and no error for a file that it does not understand.
func Check(ctx context.Context, in io.Reader, size uint64) (need uint64, err error) {
	h, err := Read(ctx, in, size)
	if errors.Is(err, ErrShort) {
		return 0, err
	}
	need, ok := h.Length()
	switch {
	case err != nil || !ok:
		return 0, ctx.Err()
	case need > size:
		return need, ErrShort
	}
	return need, nil
}

// tensorBytes is the length of a tensor, for the types that mean the same in every derivative of
// llama.cpp (ggml_type in ggml.h, block sizes in gguf-py, GGML_QUANT_SIZES). Of the others, whose
// numbers derivatives have given to types of their own, only the beginning is known for certain.
func tensorBytes(kind uint32, elements uint64) uint64 {
	var per, size uint64 // elements and bytes of one block
	switch kind {
	case 0: // F32
		per, size = 1, 4
	case 1, 30: // F16, BF16
		per, size = 1, 2
	case 2: // Q4_0
		per, size = 32, 18
	case 3: // Q4_1
		per, size = 32, 20
	case 6: // Q5_0
		per, size = 32, 22
	case 7: // Q5_1
		per, size = 32, 24
	case 8: // Q8_0
		per, size = 32, 34
	case 10, 11, 12, 13, 14: // Q2_K, Q3_K, Q4_K, Q5_K, Q6_K
		per, size = 256, [...]uint64{84, 110, 144, 176, 210}[kind-10]
	default:
		return 0
	}
	if elements/per > math.MaxUint64/size {
		return math.MaxUint64
	}
	return elements / per * size
}

// sum adds without wrapping around.
func sum(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
