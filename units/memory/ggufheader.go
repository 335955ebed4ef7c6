package memory

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	gguf "github.com/gpustack/gguf-parser-go"
)

// Bounds of what is read of a model's file. They are far above those of real models, and keep a file that was made to hurt from
// taking the manager's memory or time: the parser's own reader trusts counts as far as the file is long, which for a model is for ever.
const (
	maxHeaderBytes = 64 << 20 // the vocabulary of known models takes up to some ten megabytes
	maxPairs       = 4096
	maxTensors     = 16384
	maxName        = 256  // of a key or tensor, in bytes; ggml takes 64 for a tensor's
	maxText        = 4096 // of a value that is kept; chat templates are longer and say nothing of memory
	maxItems       = 4096 // of an array that is kept: one for each layer at most
	maxBlocks      = 4096 // layers; LLAMA_MAX_LAYERS of llama.cpp is 512
)

// errStrange ends the reading of a header that is not understood or above a bound.
var errStrange = errors.New("the header is not understood")

// readHeaders reads the headers of a model's parts, the first of which has the metadata, into the parser's own form. It reads no
// weights.
func readHeaders(ctx context.Context, paths []string) (*gguf.GGUFFile, error) {
	all := &gguf.GGUFFile{}
	for i, path := range paths {
		part, err := readHeader(ctx, path)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			all.Header = part.Header
		}
		all.TensorInfos = append(all.TensorInfos, part.TensorInfos...)
		if len(all.TensorInfos) > maxTensors {
			return nil, errStrange
		}
		all.Size += part.Size
		all.ModelSize += part.ModelSize
	}
	all.Header.TensorCount = uint64(len(all.TensorInfos))
	return all, nil
}

func readHeader(ctx context.Context, path string) (*gguf.GGUFFile, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe does not keep it waiting
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return parseHeader(ctx, f, uint64(info.Size()))
}

// parseHeader reads a stream that begins like a file of that size.
func parseHeader(ctx context.Context, in io.Reader, size uint64) (*gguf.GGUFFile, error) {
	r := &headerReader{ctx: ctx, in: bufio.NewReaderSize(in, 64<<10), size: size}
	if r.uint32() != uint32(gguf.GGUFMagicGGUFLe) {
		r.fail() // a big-endian model is another machine's
	}
	version := r.uint32()
	if version != 2 && version != 3 {
		r.fail() // 1 is of 2023, with other widths
	}
	tensors, pairs := r.uint64(), r.uint64()
	if tensors > maxTensors || pairs > maxPairs {
		r.fail()
	}
	file := &gguf.GGUFFile{Size: gguf.GGUFBytesScalar(size)}
	file.Header = gguf.GGUFHeader{Magic: gguf.GGUFMagicGGUFLe, Version: gguf.GGUFVersion(version), TensorCount: tensors}
	for i := uint64(0); i < pairs && r.err == nil; i++ {
		if kv, keep := r.pair(); keep {
			file.Header.MetadataKV = append(file.Header.MetadataKV, kv)
		}
	}
	file.Header.MetadataKVCount = uint64(len(file.Header.MetadataKV))
	for i := uint64(0); i < tensors && r.err == nil; i++ {
		file.TensorInfos = append(file.TensorInfos, r.tensor())
	}
	if r.err != nil {
		return nil, r.err
	}
	file.ModelSize = gguf.GGUFBytesScalar(size - min(size, r.at))
	return file, nil
}

// headerReader reads a header, little-endian, and stops for good at the first thing that is wrong.
type headerReader struct {
	ctx  context.Context
	in   *bufio.Reader
	size uint64 // of the file
	at   uint64 // bytes read
	err  error
	buf  [maxText]byte
}

// pair reads one key and its value; keep is false for what says nothing of memory, or could not be held.
func (r *headerReader) pair() (kv gguf.GGUFMetadataKV, keep bool) {
	key, ok := r.text(maxName)
	kind := gguf.GGUFMetadataValueType(r.uint32())
	if !ok {
		r.fail()
	}
	kv = gguf.GGUFMetadataKV{Key: key, ValueType: kind}
	switch kind {
	case gguf.GGUFMetadataValueTypeString:
		kv.Value, keep = r.text(maxText)
	case gguf.GGUFMetadataValueTypeArray:
		kv.Value, keep = r.array(strings.HasPrefix(key, "tokenizer."))
	default:
		kv.Value, keep = r.scalar(kind), true
		if strings.HasSuffix(key, ".block_count") && kind.IsNumeric() && gguf.ValueNumeric[float64](kv) > maxBlocks {
			r.fail() // the estimate goes through them one by one
		}
	}
	return kv, keep && r.err == nil
}

// array reads the items of a short array of numbers, and of any other only the length. Of arrays that are not of the tokenizer, a long one is
// dropped: the parser makes room for as many items as the length says.
func (r *headerReader) array(tokenizer bool) (value gguf.GGUFMetadataKVArrayValue, keep bool) {
	value.Type, value.Len = gguf.GGUFMetadataValueType(r.uint32()), r.uint64()
	value.StartOffset = int64(r.at)
	width := scalarWidth(value.Type)
	switch {
	case value.Type == gguf.GGUFMetadataValueTypeString:
		for i := uint64(0); i < value.Len && r.err == nil; i++ {
			r.skip(r.uint64())
		}
		keep = tokenizer
	case width == 0:
		r.fail() // arrays of arrays are in no model
	case value.Len > maxItems:
		if value.Len > maxHeaderBytes {
			r.fail()
		}
		r.skip(value.Len * width)
		keep = tokenizer
	default:
		value.Array = make([]any, 0, value.Len)
		for i := uint64(0); i < value.Len && r.err == nil; i++ {
			value.Array = append(value.Array, r.scalar(value.Type))
		}
		keep = true
	}
	value.Size = int64(r.at) - value.StartOffset
	return value, keep
}

// scalarWidth is the width of a type in bytes, 0 for those of no fixed one (gguf_metadata_value_type of the specification).
func scalarWidth(kind gguf.GGUFMetadataValueType) uint64 {
	switch kind {
	case gguf.GGUFMetadataValueTypeUint8, gguf.GGUFMetadataValueTypeInt8, gguf.GGUFMetadataValueTypeBool:
		return 1
	case gguf.GGUFMetadataValueTypeUint16, gguf.GGUFMetadataValueTypeInt16:
		return 2
	case gguf.GGUFMetadataValueTypeUint32, gguf.GGUFMetadataValueTypeInt32, gguf.GGUFMetadataValueTypeFloat32:
		return 4
	case gguf.GGUFMetadataValueTypeUint64, gguf.GGUFMetadataValueTypeInt64, gguf.GGUFMetadataValueTypeFloat64:
		return 8
	}
	return 0
}

// tensor reads one entry of the table of tensors.
func (r *headerReader) tensor() gguf.GGUFTensorInfo {
	start := r.at
	name, ok := r.text(maxName)
	dims := r.uint32()
	if !ok || dims == 0 || dims > gguf.GGMLMaxDims {
		r.fail()
		return gguf.GGUFTensorInfo{}
	}
	t := gguf.GGUFTensorInfo{Name: name, NDimensions: dims, Dimensions: make([]uint64, dims), StartOffset: int64(start)}
	for i := range t.Dimensions {
		t.Dimensions[i] = r.uint64()
	}
	t.Type, t.Offset = gguf.GGMLType(r.uint32()), r.uint64()
	return t
}

func (r *headerReader) fail() {
	if r.err == nil {
		r.err = errStrange
	}
}

// reach checks that n more bytes may be read.
func (r *headerReader) reach(n uint64) bool {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	end := saturated(r.at, n)
	if end > r.size || end > maxHeaderBytes {
		r.fail()
	}
	if r.err != nil {
		return false
	}
	r.at = end
	return true
}

func (r *headerReader) skip(n uint64) {
	if r.reach(n) {
		if _, err := r.in.Discard(int(n)); err != nil {
			r.err = err
		}
	}
}

// bytes reads at most maxText bytes, zeroes after a failure, into a buffer that is valid until the next call.
func (r *headerReader) bytes(n uint64) []byte {
	b := r.buf[:n]
	clear(b)
	if r.reach(n) {
		if _, err := io.ReadFull(r.in, b); err != nil {
			r.err = err
		}
	}
	return b
}

func (r *headerReader) uint32() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }
func (r *headerReader) uint64() uint64 { return binary.LittleEndian.Uint64(r.bytes(8)) }

// text reads a string; one that is longer than limit (at most maxText) is skipped.
func (r *headerReader) text(limit uint64) (s string, ok bool) {
	n := r.uint64()
	if n > limit {
		r.skip(n)
		return "", false
	}
	return string(r.bytes(n)), true
}
