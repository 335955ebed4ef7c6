package tinymodel_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/tinymodel"
)

func encode(t *testing.T, opts tinymodel.Options) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := tinymodel.Encode(&out, opts); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestEncode(t *testing.T) {
	smallest := encode(t, tinymodel.Options{})
	t.Run("equal_options_give_equal_bytes", func(t *testing.T) {
		if !bytes.Equal(smallest, encode(t, tinymodel.Options{})) {
			t.Error("two models of the same options differ")
		}
	})
	t.Run("another_seed_gives_another_model", func(t *testing.T) {
		other := encode(t, tinymodel.Options{Seed: 1})
		if bytes.Equal(smallest, other) || len(other) != len(smallest) {
			t.Errorf("want other bytes of the same length %d, have length %d", len(smallest), len(other))
		}
	})
	t.Run("smallest_is_about_520_kB", func(t *testing.T) {
		if n := len(smallest); n < 500_000 || n > 540_000 {
			t.Errorf("it has %d bytes", n)
		}
	})
	t.Run("size_is_reached_and_not_far_exceeded", func(t *testing.T) {
		const want = 5_000_000
		if n := len(encode(t, tinymodel.Options{Size: want})); n < want || n > want*12/10 {
			t.Errorf("asked for %d bytes, have %d", want, n)
		}
	})
	t.Run("starts_as_gguf_version_3", func(t *testing.T) {
		if magic, version := string(smallest[:4]), binary.LittleEndian.Uint32(smallest[4:]); magic != "GGUF" ||
			version != 3 {
			t.Errorf("magic %q, version %d", magic, version)
		}
		if n := binary.LittleEndian.Uint64(smallest[8:]); n != 3+2*9 {
			t.Errorf("%d tensors, want 21", n)
		}
	})
}

// TestEncodeParts: each of the files that go with a model, or beside it, is a GGUF of its own kind
// that follows its seed.
func TestEncodeParts(t *testing.T) {
	for _, c := range []struct {
		name    string
		encode  func(io.Writer, uint64) error
		tensors uint64
		key     string
	}{
		{"adapter", tinymodel.EncodeAdapter, 6, "adapter.lora.alpha"},
		{"projector", tinymodel.EncodeProjector, 23, "clip.vision.projection_dim"},
		{"reranker", tinymodel.EncodeReranker, 41, "bert.pooling_type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			of := func(seed uint64) []byte {
				var out bytes.Buffer
				if err := c.encode(&out, seed); err != nil {
					t.Fatal(err)
				}
				return out.Bytes()
			}
			b := of(1)
			if n := binary.LittleEndian.Uint64(b[8:]); string(b[:4]) != "GGUF" || n != c.tensors ||
				!bytes.Contains(b, []byte(c.key)) {
				t.Errorf("%d tensors, want %d with %s: %q", n, c.tensors, c.key, b[:64])
			}
			if other := of(2); !bytes.Equal(b, of(1)) || bytes.Equal(b, other) || len(b) != len(other) {
				t.Error("it does not follow its seed alone")
			}
		})
	}
}

func TestWrite(t *testing.T) {
	t.Run("is_readable_by_all", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "tiny.gguf")
		if err := tinymodel.Write(path, tinymodel.Options{}); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v", info.Mode())
		}
	})
	t.Run("failure_leaves_nothing", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "taken"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := tinymodel.Write(filepath.Join(dir, "taken"), tinymodel.Options{}); err == nil {
			t.Error("a directory was overwritten")
		}
		left, err := os.ReadDir(dir)
		if err != nil || len(left) != 1 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

// TestEncodeHeader: it is the beginning of the whole file, whose size it knows.
func TestEncodeHeader(t *testing.T) {
	opts := tinymodel.Options{Seed: 1, Size: 1 << 20}
	whole := encode(t, opts)
	var head bytes.Buffer
	size, err := tinymodel.EncodeHeader(&head, opts)
	if err != nil || !bytes.HasPrefix(whole, head.Bytes()) {
		t.Fatalf("%d bytes, %v: not the beginning of the file", head.Len(), err)
	}
	if over := size - int64(len(whole)); over < 0 || over >= 32 { // the last tensor is not padded
		t.Errorf("size %d, the file has %d", size, len(whole))
	}
}
