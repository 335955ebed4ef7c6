package provision

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"math"
)

// maxHeader bounds how much of a file is read to find its length, in bytes: vocabularies of known models take up to some ten
// megabytes. What is longer is left to the engine's judgement.
const maxHeader = 256 << 20

// errBeyond says that a file's own table of contents points behind its end.
var errBeyond = errors.New("the file ends before its contents do")

// errStrange ends the reading of a header that is not understood.
var errStrange = errors.New("not understood")

// header reads the beginning of a GGUF file: little-endian, version 2 or 3.
type header struct {
	in     *bufio.Reader
	size   uint64 // of the file
	at     uint64 // bytes read
	align  uint64 // of each tensor's data
	err    error
	number [8]byte // a buffer
}

// read returns the least length of the file.
func (h *header) read() uint64 {
	h.align = 32 // general.alignment where the key is missing
	h.skip(4)
	if version := h.uint32(); version != 2 && version != 3 {
		h.fail(errStrange) // 1 is of 2023 and has other widths; a big-endian file reads as a huge number
	}
	tensors, pairs := h.uint64(), h.uint64()
	for range pairs {
		if h.err != nil {
			return 0
		}
		h.pair()
	}
	var end uint64
	for range tensors {
		if h.err != nil {
			return 0
		}
		end = max(end, h.tensor())
	}
	if tensors == 0 || h.err != nil {
		return h.at
	}
	data := (h.at + h.align - 1) / h.align * h.align
	return saturated(data, end)
}

// Types of metadata values, from the specification ("gguf_metadata_value_type").
const (
	ggufUint32 = 4
	ggufString = 8
	ggufArray  = 9
)

// valueSize has the width of each type of fixed width, in bytes; 0 for string, array and unknown.
func valueSize(kind uint32) uint64 {
	widths := [...]uint64{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}
	if kind >= uint32(len(widths)) {
		return 0
	}
	return widths[kind]
}

// pair reads one key and its value.
func (h *header) pair() {
	key := h.text(64)
	kind := h.uint32()
	if key == "general.alignment" && kind == ggufUint32 {
		if h.align = uint64(h.uint32()); h.align == 0 && h.err == nil {
			h.fail(errStrange)
		}
		return
	}
	h.value(kind, 0)
}

func (h *header) value(kind uint32, depth int) {
	switch width := valueSize(kind); {
	case width > 0:
		h.skip(width)
	case kind == ggufString:
		h.skip(h.uint64())
	case kind == ggufArray && depth < 4:
		h.array(depth)
	default:
		h.fail(errStrange)
	}
}

func (h *header) array(depth int) {
	kind, count := h.uint32(), h.uint64()
	if width := valueSize(kind); width > 0 {
		if count > math.MaxUint64/width {
			h.fail(errStrange)
			return
		}
		h.skip(count * width)
		return
	}
	for range count {
		if h.err != nil {
			return
		}
		h.value(kind, depth+1)
	}
}

// tensor reads one entry of the table and returns the offset behind the tensor, from the beginning of the data.
func (h *header) tensor() uint64 {
	h.skip(h.uint64()) // the name
	dims := h.uint32()
	if dims > 8 {
		h.fail(errStrange)
		return 0
	}
	elements := uint64(1)
	for range dims {
		n := h.uint64()
		if n != 0 && elements > math.MaxUint64/n {
			h.fail(errStrange)
			return 0
		}
		elements *= n
	}
	kind, offset := h.uint32(), h.uint64()
	return saturated(offset, tensorBytes(kind, elements))
}

// tensorBytes is the length of a tensor, for the types that mean the same in every derivative of llama.cpp (ggml_type in ggml.h, block
// sizes in gguf-py, GGML_QUANT_SIZES). Of the others, whose numbers derivatives have given to types of their own, only the
// beginning is known for certain.
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

func saturated(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

func (h *header) fail(err error) {
	if h.err == nil {
		h.err = err
	}
}

// reach checks that n more bytes may be read.
func (h *header) reach(n uint64) bool {
	switch end := saturated(h.at, n); {
	case h.err != nil:
	case end > h.size:
		h.fail(errBeyond)
	case end > maxHeader:
		h.fail(errStrange)
	default:
		h.at = end
		return true
	}
	return false
}

// skip passes over n bytes.
func (h *header) skip(n uint64) {
	if h.reach(n) {
		if _, err := h.in.Discard(int(n)); err != nil {
			h.fail(errStrange) // the disk's, or the file was cut just now
		}
	}
}

// bytes reads n bytes, or as many zeroes after a failure, into a buffer that is valid until the next call.
func (h *header) bytes(n uint64) []byte {
	b := h.number[:]
	clear(b)
	if n > uint64(len(b)) {
		b = make([]byte, n)
	}
	if h.reach(n) {
		if _, err := io.ReadFull(h.in, b[:n]); err != nil {
			h.fail(errStrange)
		}
	}
	return b
}

func (h *header) uint32() uint32 { return binary.LittleEndian.Uint32(h.bytes(4)) }
func (h *header) uint64() uint64 { return binary.LittleEndian.Uint64(h.bytes(8)) }

// text reads a string; of one that is longer than limit bytes, nothing is returned.
func (h *header) text(limit uint64) string {
	n := h.uint64()
	if n > limit {
		h.skip(n)
		return ""
	}
	return string(h.bytes(n)[:n])
}
