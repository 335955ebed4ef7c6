package unpack

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"
)

// counter counts what is read of a layer, and ends with the context. Its error is kept: readers of
// archives replace it.
type counter struct {
	ctx  context.Context
	from io.Reader
	n    int64
	err  error
}

func (c *counter) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		c.err = context.Cause(c.ctx)
		return 0, err
	}
	n, err := c.from.Read(p)
	c.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		c.err = err
	}
	return n, err
}

// window bounds the memory that a layer in zstd may ask for, in bytes: that of "zstd --ultra -22".
const window = 128 << 20

// decompress returns the archive in a layer. The first bytes decide, since media types are known to
// be wrong.
func decompress(from *counter) (io.ReadCloser, error) {
	b := bufio.NewReaderSize(from, 256<<10)
	head, err := b.Peek(4)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, &Refused{"", "the layer is not compressed with gzip, as its first bytes say"}
		}
		return z, nil
	case bytes.Equal(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		z, err := zstd.NewReader(b, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
		if err != nil {
			return nil, err
		}
		return z.IOReadCloser(), nil
	}
	return io.NopCloser(b), nil
}
