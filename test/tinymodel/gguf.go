package tinymodel

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
)

// The GGUF format, version 3: all numbers little-endian (the specification in the ggml repository).
const (
	ggufMagic     = "GGUF"
	ggufVersion   = 3
	ggufAlignment = 32 // of each tensor's data, from the start of the data; the default that needs no key

	valueUint32  = 4
	valueInt32   = 5
	valueFloat32 = 6
	valueBool    = 7
	valueString  = 8
	valueArray   = 9

	tensorF32 = 0
)

// pair is one key of the metadata. The value is a uint32, float32, bool, string, or a slice of
// string, float32 or int32.
type pair struct {
	key   string
	value any
}

// encoder writes the parts of a file and keeps the first error.
type encoder struct {
	out  *bufio.Writer
	size int64 // bytes so far
	err  error
}

func (e *encoder) bytes(b []byte) {
	if e.err != nil {
		return
	}
	n, err := e.out.Write(b)
	e.size, e.err = e.size+int64(n), err
}

func (e *encoder) uint32(v uint32) {
	var b [4]byte
	binary.LittleEndian.PutUint32(b[:], v)
	e.bytes(b[:])
}

func (e *encoder) uint64(v uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], v)
	e.bytes(b[:])
}

func (e *encoder) float32(v float32) { e.uint32(math.Float32bits(v)) }

func (e *encoder) string(s string) {
	e.uint64(uint64(len(s)))
	e.bytes([]byte(s))
}

// pad fills up to the next aligned position, where the data of a tensor may start.
func (e *encoder) pad() {
	if over := e.size % ggufAlignment; over != 0 {
		e.bytes(make([]byte, ggufAlignment-over))
	}
}

func (e *encoder) header(tensors int, meta []pair) {
	e.bytes([]byte(ggufMagic))
	e.uint32(ggufVersion)
	e.uint64(uint64(tensors))
	e.uint64(uint64(len(meta)))
	for _, p := range meta {
		e.string(p.key)
		e.value(p.value)
	}
}

// value writes the type of a value and the value.
func (e *encoder) value(v any) {
	switch v := v.(type) {
	case uint32:
		e.uint32(valueUint32)
		e.uint32(v)
	case float32:
		e.uint32(valueFloat32)
		e.float32(v)
	case bool:
		e.uint32(valueBool)
		e.bytes([]byte{map[bool]byte{true: 1}[v]})
	case string:
		e.uint32(valueString)
		e.string(v)
	case []string:
		writeArray(e, valueString, v, e.string)
	case []float32:
		writeArray(e, valueFloat32, v, e.float32)
	case []int32:
		writeArray(e, valueInt32, v, func(i int32) { e.uint32(uint32(i)) })
	default:
		e.err = fmt.Errorf("metadata of type %T has no form in GGUF here", v)
	}
}

// writeArray writes a value of type array.
func writeArray[T any](e *encoder, kind uint32, values []T, write func(T)) {
	e.uint32(valueArray)
	e.uint32(kind)
	e.uint64(uint64(len(values)))
	for _, v := range values {
		write(v)
	}
}

// tensorInfos writes name, shape, type and place of each tensor. Shapes name the columns first.
func (e *encoder) tensorInfos(tensors []tensor) {
	offset := 0
	for _, t := range tensors {
		e.string(t.name)
		dimensions := t.dimensions()
		e.uint32(uint32(len(dimensions)))
		for _, n := range dimensions {
			e.uint64(uint64(n))
		}
		e.uint32(tensorF32)
		e.uint64(uint64(offset))
		offset += (t.elements()*f32Bytes + ggufAlignment - 1) / ggufAlignment * ggufAlignment
	}
}
