package gguf

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"syscall"
)

// Open reads the header of a file, and returns the file's size too.
func Open(ctx context.Context, path string) (h Header, size uint64, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe does not keep it waiting
	if err != nil {
		return Header{}, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Header{}, 0, err
	}
	if !info.Mode().IsRegular() {
		return Header{}, 0, fmt.Errorf("%s is not a regular file", path)
	}
	h, err = Read(ctx, f, uint64(info.Size()))
	return h, uint64(info.Size()), err
}

// Read reads a stream that begins like a file of that size. The error is ErrShort, ErrStrange, that
// of the stream, or that of the context.
func Read(ctx context.Context, in io.Reader, size uint64) (Header, error) {
	r := &reader{ctx: ctx, in: bufio.NewReaderSize(in, 64<<10), size: size}
	h := Header{Align: 32} // where general.alignment is missing
	if string(r.bytes(4)) != Magic {
		r.fail(ErrStrange)
	}
	if h.Version = r.uint32(); h.Version != 2 && h.Version != 3 {
		r.fail(ErrStrange) // 1 is of 2023 and has other widths; a big-endian file has a huge number
	}
	tensors, pairs := r.uint64(), r.uint64()
	r.count(tensors, 24, maxTensors)
	r.count(pairs, 13, maxPairs)
	for i := uint64(0); i < pairs && r.err == nil; i++ {
		p, keep := r.pair()
		if align, ok := p.Value.(uint32); ok && p.Key == "general.alignment" {
			if h.Align = uint64(align); h.Align == 0 {
				r.fail(ErrStrange)
			}
		}
		if keep {
			h.Pairs = append(h.Pairs, p)
		} else {
			h.Long = append(h.Long, p.Key)
		}
	}
	for i := uint64(0); i < tensors && r.err == nil; i++ {
		h.Tensors = append(h.Tensors, r.tensor())
	}
	if r.err != nil {
		return Header{}, r.err
	}
	h.Bytes = r.at
	return h, nil
}

// reader reads little-endian, and stops at the first error.
type reader struct {
	ctx  context.Context
	in   *bufio.Reader
	size uint64 // of the file
	at   uint64 // bytes read
	err  error
	buf  [maxText]byte
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// count checks a number of entries of at least so many bytes each.
func (r *reader) count(n, least, most uint64) {
	switch {
	case r.err == nil && n > (r.size-r.at)/least:
		r.fail(ErrShort)
	case n > most:
		r.fail(ErrStrange)
	}
}

// pair reads one key and its value; keep is false for what could not be held.
func (r *reader) pair() (p Pair, keep bool) {
	key, ok := r.text(maxName)
	if !ok {
		r.fail(ErrStrange)
	}
	p = Pair{Key: key, Type: Type(r.uint32())}
	switch {
	case p.Type == String:
		p.Value, keep = r.text(maxText)
	case p.Type == List:
		p.Value, keep = r.array(strings.HasPrefix(key, "tokenizer."), 1)
	default:
		p.Value, keep = r.scalar(p.Type), true
	}
	return p, keep && r.err == nil
}

// array reads the items of a short array of numbers, and of any other only the length. Long ones
// that are not of the tokenizer are dropped: their length would be believed.
func (r *reader) array(tokenizer bool, depth int) (a Array, keep bool) {
	a.Type, a.Len = Type(r.uint32()), r.uint64()
	a.Offset = r.at
	width := a.Type.width()
	switch {
	case a.Type == String:
		for i := uint64(0); i < a.Len && r.err == nil; i++ {
			r.skip(r.uint64())
		}
		keep = tokenizer
	case a.Type == List && depth < maxDepth:
		for i := uint64(0); i < a.Len && r.err == nil; i++ {
			r.array(false, depth+1)
		}
		keep = true
	case width == 0 || a.Len > math.MaxUint64/width:
		r.fail(ErrStrange)
	case a.Len > maxItems:
		r.skip(a.Len * width)
		keep = tokenizer
	default:
		a.Items = make([]any, 0, a.Len)
		for i := uint64(0); i < a.Len && r.err == nil; i++ {
			a.Items = append(a.Items, r.scalar(a.Type))
		}
		keep = true
	}
	a.Bytes = r.at - a.Offset
	return a, keep
}

// tensor reads one entry of the table of tensors.
func (r *reader) tensor() Tensor {
	t := Tensor{At: r.at}
	name, ok := r.text(maxName)
	dims := r.uint32()
	if !ok || dims == 0 || dims > maxDims {
		r.fail(ErrStrange)
		return Tensor{}
	}
	t.Name, t.Dims = name, make([]uint64, dims)
	for i := range t.Dims {
		t.Dims[i] = r.uint64()
	}
	t.Type, t.Offset = r.uint32(), r.uint64()
	return t
}

// scalar reads a value of fixed width.
func (r *reader) scalar(kind Type) any {
	if kind.width() == 0 {
		r.fail(ErrStrange)
		return nil
	}
	var bits uint64
	for i, b := range r.bytes(kind.width()) {
		bits |= uint64(b) << (8 * i)
	}
	switch kind {
	case Uint8:
		return uint8(bits)
	case Int8:
		return int8(bits)
	case Uint16:
		return uint16(bits)
	case Int16:
		return int16(bits)
	case Uint32:
		return uint32(bits)
	case Int32:
		return int32(bits)
	case Float32:
		return math.Float32frombits(uint32(bits))
	case Bool:
		return bits != 0
	case Int64:
		return int64(bits)
	case Float64:
		return math.Float64frombits(bits)
	}
	return bits
}

// reach checks that n more bytes may be read.
func (r *reader) reach(n uint64) bool {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	end := sum(r.at, n)
	switch {
	case end > r.size:
		r.fail(ErrShort)
	case end > MaxHeader:
		r.fail(ErrStrange)
	}
	if r.err != nil {
		return false
	}
	r.at = end
	return true
}

// skip passes over n bytes.
func (r *reader) skip(n uint64) {
	if r.reach(n) {
		if _, err := r.in.Discard(int(n)); err != nil {
			r.fail(err) // the disk's, or the file was cut just now
		}
	}
}

// bytes reads at most maxText bytes, zeroes after a failure, into a buffer that is valid until the
// next call.
func (r *reader) bytes(n uint64) []byte {
	b := r.buf[:n]
	clear(b)
	if r.reach(n) {
		if _, err := io.ReadFull(r.in, b); err != nil {
			r.fail(err)
		}
	}
	return b
}

func (r *reader) uint32() uint32 { return binary.LittleEndian.Uint32(r.bytes(4)) }
func (r *reader) uint64() uint64 { return binary.LittleEndian.Uint64(r.bytes(8)) }

// text reads a string; one that is longer than limit (at most maxText) is passed over.
func (r *reader) text(limit uint64) (s string, ok bool) {
	n := r.uint64()
	if n > limit {
		r.skip(n)
		return "", false
	}
	return string(r.bytes(n)), true
}
