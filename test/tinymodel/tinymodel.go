// Package tinymodel writes a GGUF model with random weights, small enough to be made in a test and
// whole enough for a real llama-server to load and to answer from. It owns the format and the shape
// of that model, and must not know who serves it or how.
//
// The model babbles: it answers any prompt with printable ASCII characters, one per token, and
// never ends by itself, so that a request for n tokens yields n. What goes with it is written too:
// a LoRA adapter, a projector for images (parts.go), and beside it a model that ranks documents
// (reranker.go) and one for the engines of Python (directory.go).
package tinymodel

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
)

// Options say which model to write. The zero value is the smallest one, about 520 kB.
type Options struct {
	Seed uint64 // equal options give equal bytes
	// Size is the least size of the file in bytes. More than the smallest makes the feed-forward
	// layers wider, so that loading and each token take longer.
	Size int64
}

// The shape of the model. The attention part and the vocabulary do not grow with Options.Size.
const (
	layers        = 2
	embedding     = 64
	heads         = 4
	feedForward   = 128 // of the smallest model
	contextLength = 512

	f32Bytes = 4
	// feedForwardStep keeps rows a multiple of what vectorised kernels like.
	feedForwardStep = 32
)

// Write writes the model to a file at path, which appears whole or not at all.
func Write(path string, opts Options) error {
	return WriteWith(path, func(w io.Writer) error { return Encode(w, opts) })
}

// WriteWith writes a file at path by a function, such as EncodeProjector.
func WriteWith(path string, encode func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("write a model: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write the model %s: %w", path, err), f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := encode(f); err != nil {
		return err
	}
	// A model is read by the engine's own user.
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// Encode writes the model to w.
func Encode(w io.Writer, opts Options) error {
	out := bufio.NewWriterSize(w, 1<<20)
	e := &encoder{out: out}
	ff := feedForwardFor(opts.Size)
	tensors := tensorsOf(ff)
	e.header(len(tensors), metadata(ff))
	e.tensorInfos(tensors)
	random := rand.New(rand.NewPCG(opts.Seed, uint64(ff)))
	for _, t := range tensors {
		e.pad()
		t.fill(e, random, t)
	}
	if e.err != nil {
		return e.err
	}
	return out.Flush()
}

// EncodeHeader writes all but the data of the tensors to w, and returns how many bytes the file has
// with them: truncate(1) makes it one that takes no room, for a model that is larger than a disk.
func EncodeHeader(w io.Writer, opts Options) (size int64, err error) {
	out := bufio.NewWriter(w)
	e := &encoder{out: out}
	ff := feedForwardFor(opts.Size)
	tensors := tensorsOf(ff)
	e.header(len(tensors), metadata(ff))
	e.tensorInfos(tensors)
	e.pad()
	size = e.size
	for _, t := range tensors {
		size += int64((t.elements()*f32Bytes + ggufAlignment - 1) / ggufAlignment * ggufAlignment)
	}
	return size, errors.Join(e.err, out.Flush())
}

// feedForwardFor is the width of the feed-forward layers with which the weights alone take up size
// bytes.
func feedForwardFor(size int64) int {
	const perUnit = layers * 3 * embedding * f32Bytes // gate, up and down in each layer
	width := (size + perUnit - 1) / perUnit
	width = (width + feedForwardStep - 1) / feedForwardStep * feedForwardStep
	return max(feedForward, int(width))
}
