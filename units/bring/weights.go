package bring

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/gguf"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/regular"
	"github.com/pool-managerd/pool-managerd/units/shell"
)

// Flaw is why a file does not hold the weights that it should: what a download leaves that failed,
// or has not ended.
type Flaw struct {
	Text string // a clause that continues the name of the file
	Hint string
}

// Bounds of what is read of a file to know what it is.
const (
	headLen     = 64
	pointerLen  = 1024    // of a git-lfs pointer: its specification allows no longer one
	maxHeader   = 1 << 20 // of a file in safetensors; larger ones are not checked
	quotedText  = 40      // of a text that is no model
	bytesLength = 8       // of the number that a file in safetensors begins with
)

// weigh notes a file of weights.
func (found *Found) weigh(f engine.File, path string, info fs.FileInfo) {
	if f.Weights && (info.Size() > 0 || path == f.Path || engine.HoldsWeights(path)) {
		found.weights = append(found.weights, weight{f, path, info.Size()})
	}
}

// Damaged returns a *registry.Failure about the first file of weights beside the pool's model that
// does not hold any.
func (found Found) Damaged(p pool.Pool) error {
	if fault := found.damaged(loadedBy(p)); fault != nil {
		return fault.Failure
	}
	return nil
}

func (found Found) damaged(by engine.Weights) *Fault {
	for _, w := range found.weights {
		flaw := Damaged(w.path, w.size, by)
		if flaw == nil {
			continue
		}
		in := ""
		if w.path != w.of.Path {
			in = fmt.Sprintf("has %s, which ", w.path)
		}
		fault := fail(w.of, flaw.Hint, "%s%s", in, flaw.Text)
		if w.size > 0 {
			fault.Code = registry.CodeProvisionFailed
		}
		return fault
	}
	return nil
}

// Damaged returns what is wrong with a regular file of weights that an engine of that kind loads;
// nil: it may be good. It reports only what is certain: a format that is not known passes.
func Damaged(path string, size int64, by engine.Weights) *Flaw {
	if size == 0 {
		return &Flaw{"is empty", "Copy the file again: ls -l " + shell.Quote(path)}
	}
	file, _, err := regular.Open(path)
	if err != nil {
		return &Flaw{fmt.Sprintf("cannot be read: %v", Cause(err)), "The manager is root without capabilities; " +
			"others must be able to read the file: chmod o+r " + shell.Quote(path)}
	}
	defer file.Close()
	head, err := Head(file, headLen)
	switch suffix := strings.ToLower(filepath.Ext(path)); {
	case err != nil:
		return &Flaw{fmt.Sprintf("cannot be read: %v", Cause(err)), "Read the kernel's log: dmesg -l err,warn"}
	case bytes.HasPrefix(head, []byte(lfsPointer)) && size <= pointerLen:
		return &Flaw{"is a git-lfs pointer; the weights were not fetched",
			"Download the file itself, or fetch it with git-lfs: git -C " +
				shell.Quote(filepath.Dir(path)) + " lfs pull"}
	case by == engine.GGUF || by == engine.Safetensors && suffix == ".gguf":
		return damagedGGUF(file, head, path, size)
	case by == engine.Safetensors && suffix == ".safetensors":
		return damagedSafetensors(file, head, path, size)
	}
	return nil
}

const lfsPointer = "version https://git-lfs"

// Head returns the first bytes of a file, fewer where it is shorter.
func Head(in io.ReaderAt, n int64) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(in, 0, n))
}

func damagedGGUF(in io.ReaderAt, head []byte, path string, size int64) *Flaw {
	if !bytes.HasPrefix(head, []byte(gguf.Magic)) {
		return &Flaw{"is not a GGUF file: " + otherThan(head, "it does not begin with "+gguf.Magic),
			"Download the file again; this shows what it is: file " + shell.Quote(path)}
	}
	// The header has an end: gguf.MaxHeader.
	need, err := gguf.Check(context.Background(), io.NewSectionReader(in, 0, size), uint64(size))
	if err != nil && !errors.Is(err, gguf.ErrShort) {
		return nil
	}
	return incomplete(path, need, size, err != nil)
}

// damagedSafetensors reads the table at the beginning of a file: a number, and so many bytes of
// JSON, which name the last byte of each tensor (huggingface.co/docs/safetensors).
func damagedSafetensors(in io.ReaderAt, head []byte, path string, size int64) *Flaw {
	if len(head) < bytesLength {
		return nil
	}
	header := binary.LittleEndian.Uint64(head)
	if header == 0 || header > maxHeader {
		if what := otherThan(head, ""); what != "" {
			return &Flaw{"is not a file in safetensors: " + what,
				"Download the file again; this shows what it is: file " + shell.Quote(path)}
		}
		return nil
	}
	need := bytesLength + header
	if need > uint64(size) {
		return incomplete(path, 0, size, head[bytesLength] == '{')
	}
	var tensors map[string]struct {
		Offsets [2]uint64 `json:"data_offsets"`
	}
	text := io.NewSectionReader(in, bytesLength, int64(header))
	if json.NewDecoder(text).Decode(&tensors) != nil {
		return nil // the engine reports it
	}
	end := uint64(0)
	for _, tensor := range tensors {
		end = max(end, tensor.Offsets[1])
	}
	return incomplete(path, need+end, size, end <= 1<<62 && need+end > uint64(size))
}

// incomplete returns the flaw of a file that ends too early, if it does. need is 0 where it ends
// within its header.
func incomplete(path string, need uint64, size int64, is bool) *Flaw {
	if !is {
		return nil
	}
	text := fmt.Sprintf("it has %d bytes, but its header requires at least %d", size, need)
	if need <= uint64(size) {
		text = fmt.Sprintf("it has %d bytes and ends within its header", size)
	}
	return &Flaw{"is incomplete: " + text, "Download the file again. If a copy is still running, the pool starts " +
		"when it is complete; this shows whether it grows: ls -l " + shell.Quote(path)}
}

// otherThan describes the beginning of a file that is of another format; where nothing is known of
// it, it returns unknown.
func otherThan(head []byte, unknown string) string {
	text := bytes.TrimSpace(head)
	switch {
	case bytes.HasPrefix(text, []byte("<")):
		return "it is a web page"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return "it is compressed by gzip"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return "it is a ZIP archive"
	case len(bytes.Trim(head, "\x00")) == 0:
		return "it begins with zeros, like an allocated file whose download never ran"
	case utf8.Valid(text) && !bytes.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }):
		line, _, _ := strings.Cut(string(text), "\n")
		return fmt.Sprintf("it is a text: %q", line[:min(len(line), quotedText)])
	}
	return unknown
}
