package memory

import (
	"math"

	gguf "github.com/gpustack/gguf-parser-go"
)

// scalar reads a value of fixed width as the Go type that the parser expects for it.
func (r *headerReader) scalar(kind gguf.GGUFMetadataValueType) any {
	bits := r.bits(scalarWidth(kind))
	switch kind {
	case gguf.GGUFMetadataValueTypeUint8:
		return uint8(bits)
	case gguf.GGUFMetadataValueTypeInt8:
		return int8(bits)
	case gguf.GGUFMetadataValueTypeUint16:
		return uint16(bits)
	case gguf.GGUFMetadataValueTypeInt16:
		return int16(bits)
	case gguf.GGUFMetadataValueTypeUint32:
		return uint32(bits)
	case gguf.GGUFMetadataValueTypeInt32:
		return int32(bits)
	case gguf.GGUFMetadataValueTypeFloat32:
		return math.Float32frombits(uint32(bits))
	case gguf.GGUFMetadataValueTypeBool:
		return bits != 0
	case gguf.GGUFMetadataValueTypeUint64:
		return bits
	case gguf.GGUFMetadataValueTypeInt64:
		return int64(bits)
	case gguf.GGUFMetadataValueTypeFloat64:
		return math.Float64frombits(bits)
	}
	r.fail()
	return nil
}

// bits reads up to eight bytes as a little-endian number.
func (r *headerReader) bits(width uint64) uint64 {
	var n uint64
	for i, b := range r.bytes(width) {
		n |= uint64(b) << (8 * i)
	}
	return n
}
