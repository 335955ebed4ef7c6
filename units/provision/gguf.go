package provision

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bring"
	"github.com/pool-managerd/pool-managerd/units/gguf"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// checkGGUF reports a file that is not a model: a failed or unfinished download.
func checkGGUF(files []file) error {
	for _, f := range files {
		head, err := firstBytes(f.path, 64)
		if err != nil {
			return registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("model %s cannot be read: %v", f.path, err),
				"The manager is root without capabilities; others must be able to read the file: chmod o+r "+
					shell.Quote(f.path))
		}
		if !bytes.HasPrefix(head, []byte(gguf.Magic)) {
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("model %s is not a GGUF file: %s", f.path, otherThanGGUF(head)),
				"Download the file again; this shows what it is: file "+shell.Quote(f.path))
		}
		need, err := ggufLength(f.path, f.info.Size())
		if err != nil {
			return registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("model %s is incomplete: %s", f.path, missingBytes(need, f.info.Size())),
				"Download the file again. If a copy is still running, the pool starts when it is complete; this shows "+
					"whether it grows: ls -l "+shell.Quote(f.path))
		}
	}
	return nil
}

// otherThanGGUF describes a file without the magic number.
func otherThanGGUF(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("version https://git-lfs")):
		return "it is a git-lfs pointer; the weights were not fetched"
	case bytes.HasPrefix(bytes.TrimSpace(head), []byte("<")):
		return "it is a web page"
	case bytes.Count(head, []byte{0}) == len(head):
		return "it begins with zeros, like an allocated file whose download never ran"
	}
	return "it does not begin with " + gguf.Magic
}

func missingBytes(need uint64, size int64) string {
	if need <= uint64(size) {
		return fmt.Sprintf("it has %d bytes and ends within its header", size)
	}
	return fmt.Sprintf("it has %d bytes, but its header requires at least %d", size, need)
}

func firstBytes(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, bring.Cause(err)
	}
	defer f.Close()
	head := make([]byte, n)
	got, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return nil, bring.Cause(err)
	}
	return head[:got], nil
}

// ggufLength returns how long a file must be at least, by its own table of tensors, and ErrShort
// when it is shorter. It returns ErrShort only for a file that is certainly truncated, and accepts
// a header that it cannot parse.
func ggufLength(path string, size int64) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, nil // readable a moment ago; the engine will report it
	}
	defer f.Close()
	return gguf.Check(context.Background(), f, uint64(size)) // it has an end: gguf.MaxHeader
}
