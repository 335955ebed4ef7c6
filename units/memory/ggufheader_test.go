package memory

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	gguf "github.com/gpustack/gguf-parser-go"

	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// header builds the beginning of a GGUF file.
type header struct{ bytes.Buffer }

func begin(tensors, pairs uint64) *header {
	h := &header{}
	h.WriteString("GGUF")
	return h.u32(3).u64(tensors).u64(pairs)
}

func (h *header) u32(v uint32) *header {
	h.Write(binary.LittleEndian.AppendUint32(nil, v))
	return h
}

func (h *header) u64(v uint64) *header {
	h.Write(binary.LittleEndian.AppendUint64(nil, v))
	return h
}

func (h *header) str(s string) *header {
	h.u64(uint64(len(s))).WriteString(s)
	return h
}

func (h *header) text(key, value string) *header      { return h.str(key).u32(8).str(value) }
func (h *header) number(key string, v uint32) *header { return h.str(key).u32(4).u32(v) }

// array begins an array of a type with a length; its items follow, or do not.
func (h *header) array(key string, kind uint32, length uint64) *header {
	return h.str(key).u32(9).u32(kind).u64(length)
}

// tensor is an entry of the table: F32, of these dimensions.
func (h *header) tensor(name string, dims ...uint64) *header {
	h.str(name).u32(uint32(len(dims)))
	for _, d := range dims {
		h.u64(d)
	}
	return h.u32(0).u64(0)
}

// llama begins a model of that architecture with so many further pairs and tensors.
func llama(tensors, pairs uint64) *header {
	return begin(tensors, pairs+1).text("general.architecture", "llama")
}

// TestHostileModels holds that no file takes the manager's memory, time or life. Each claims to be
// a terabyte long, as a sparse file can.
func TestHostileModels(t *testing.T) {
	const size = 1 << 40
	cases := []struct {
		name string
		file *header
	}{
		{"empty", &header{}},
		{"nothing_behind_the_counts", begin(1, 1)},
		{"a_billion_tensors", begin(1<<30, 0)},
		{"a_billion_pairs", begin(0, 1<<30)},
		{"a_key_of_a_gigabyte", begin(0, 1).u64(1 << 30)},
		{"a_key_beyond_64_bits", begin(0, 1).u64(1<<64 - 1)},
		{"a_long_array_of_heads", llama(0, 1).array("llama.attention.head_count_kv", 4, 1<<28)},
		{"a_long_array_of_texts", llama(0, 1).array("tokenizer.ggml.tokens", 8, 1<<60)},
		{"a_long_array_of_doubles", llama(0, 1).array("tokenizer.ggml.scores", 12, 1<<61)},
		{"arrays_in_arrays", llama(0, 1).array("x", 9, 1<<20)},
		{"an_empty_array_of_heads", llama(0, 1).array("llama.attention.head_count", 4, 0)},
		{"four_billion_layers", llama(0, 1).number("llama.block_count", 1<<32-1)},
		{"an_architecture_that_is_a_number", begin(0, 1).number("general.architecture", 7)},
		{"a_type_that_is_a_number", llama(0, 1).number("general.type", 7)},
		{"a_tensor_of_many_dimensions", llama(1, 0).str("x").u32(1 << 31)},
		{"tensors_beyond_64_bits", llama(1, 1).number("llama.block_count", 1).tensor("blk.0.attn_q.weight", 1<<63, 1<<63)},
		{"widths_beyond_any_machine", llama(1, 4).number("llama.block_count", 4000).number("llama.embedding_length", 1<<32-1).
			number("llama.context_length", 1<<32-1).number("llama.attention.head_count", 1<<32-1).tensor("blk.0.attn_q.weight", 1, 1)},
		{"a_projector", begin(0, 1).text("general.architecture", "clip")},
		{"an_adapter", llama(0, 1).text("general.type", "adapter")},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "hostile.gguf")
			if err := os.WriteFile(path, c.file.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(path, size); err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			need, err := New(nil, nil).Estimate(t.Context(), pool.Pool{Engine: engine.LlamaCpp},
				pool.Staged{Path: path}, "", gpus(gib))
			runtime.ReadMemStats(&after)
			if err != nil || need.Source != Unknown {
				t.Errorf("%+v, %v; want an unknown need", need, err)
			}
			if taken := after.TotalAlloc - before.TotalAlloc; taken > 16*mib {
				t.Errorf("it took %s", Size(taken))
			}
		})
	}
}

func TestParseHeader(t *testing.T) {
	var file bytes.Buffer
	if err := tinymodel.Encode(&file, tinymodel.Options{}); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	ours, err := readHeaders(t.Context(), []string{path})
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := gguf.ParseGGUFFile(path, gguf.SkipLargeMetadata())
	if err != nil {
		t.Fatal(err)
	}
	// The library's own reader is the reference for a file without malice.
	if a, b := fmt.Sprint(ours.Architecture()), fmt.Sprint(theirs.Architecture()); a != b {
		t.Errorf("architecture\n%s\nwant\n%s", a, b)
	}
	if a, b := ours.Tokenizer().TokensLength, theirs.Tokenizer().TokensLength; a != b || a == 0 {
		t.Errorf("%d tokens, want %d", a, b)
	}
	if a, b := ours.TensorInfos.Bytes(), theirs.TensorInfos.Bytes(); a != b ||
		len(ours.TensorInfos) != len(theirs.TensorInfos) {
		t.Errorf("%d bytes in %d tensors, want %d in %d", a, len(ours.TensorInfos), b, len(theirs.TensorInfos))
	}
}

// TestParts: the tensors of all parts count, the metadata of the first.
func TestParts(t *testing.T) {
	dir := t.TempDir()
	for i, h := range []*header{
		llama(1, 1).number("llama.block_count", 2).tensor("blk.0.attn_q.weight", 64, 64),
		begin(1, 0).tensor("blk.1.attn_q.weight", 64, 64),
	} {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("m-%05d-of-00002.gguf", i+1)), h.Bytes(),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	paths, err := partsOf(filepath.Join(dir, "m-00001-of-00002.gguf"))
	if err != nil || len(paths) != 2 {
		t.Fatalf("%v, %v", paths, err)
	}
	file, err := readHeaders(t.Context(), paths)
	if err != nil || len(file.TensorInfos) != 2 || file.TensorInfos.Bytes() != 2*64*64*4 {
		t.Errorf("%+v, %v", file, err)
	}
	for _, single := range []string{"/m/a.gguf", "/m/x-00001-of-0002.gguf", "/m/00001-of-00001.gguf",
		"/m/a-00001-of-00000.gguf", "/m/a-00001-of-00002.safetensors"} {
		if got, err := partsOf(single); err != nil || len(got) != 1 || got[0] != single {
			t.Errorf("partsOf(%s) = %v, %v", single, got, err)
		}
	}
}

// FuzzModel: any bytes give an estimate within reason or an error, never a panic, and never both.
func FuzzModel(f *testing.F) {
	var file bytes.Buffer
	if err := tinymodel.Encode(&file, tinymodel.Options{}); err != nil {
		f.Fatal(err)
	}
	f.Add(file.Bytes()[:16<<10])
	f.Add(llama(1, 2).number("llama.block_count", 2).number("llama.context_length", 512).
		tensor("blk.0.attn_q.weight", 64, 64).Bytes())
	f.Add(begin(0, 1).text("general.architecture", "mamba").Bytes())
	f.Add(llama(0, 1).array("llama.attention.head_count", 4, 1).u32(4).Bytes())
	dir := f.TempDir()
	f.Fuzz(mutate.Many(func(t *testing.T, content []byte) {
		path := filepath.Join(dir, "m.gguf")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, int64(len(content))+mib); err != nil {
			t.Fatal(err)
		}
		o, err := readRun(ggufAdapter(), pool.Pool{Ctx: 512, Slots: 2}, path, gpus(gib, gib))
		if err != nil {
			t.Fatal(err)
		}
		u, err := parser{}.Usage(context.Background(), []string{path}, o)
		if (err != nil) != (len(u.Devices) == 0) || err == nil && u.sane() != nil {
			t.Errorf("%+v, %v", u, err)
		}
	}))
}

// BenchmarkEstimate is one estimate of a model with as many tensors and tokens as one of 8 billion
// parameters has.
func BenchmarkEstimate(b *testing.B) {
	path := filepath.Join(b.TempDir(), "m.gguf")
	if err := os.WriteFile(path, eightBillion().Bytes(), 0o644); err != nil {
		b.Fatal(err)
	}
	if err := os.Truncate(path, 40<<30); err != nil {
		b.Fatal(err)
	}
	o, err := readRun(ggufAdapter(), pool.Pool{Ctx: 8192, Slots: 4}, path, gpus(24*gib))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := (parser{}).Usage(b.Context(), []string{path}, o); err != nil {
			b.Fatal(err)
		}
	}
}

// eightBillion is the header of a Llama 3 of 8 billion parameters, in F32.
func eightBillion() *header {
	const layers, tokens, width, ff = 32, 128256, 4096, 14336
	h := llama(3+9*layers, 8).
		number("llama.block_count", layers).
		number("llama.context_length", 8192).
		number("llama.embedding_length", width).
		number("llama.feed_forward_length", ff).
		number("llama.attention.head_count", 32).
		number("llama.attention.head_count_kv", 8).
		text("tokenizer.ggml.model", "gpt2")
	h.array("tokenizer.ggml.tokens", 8, tokens)
	for i := range tokens {
		h.str(fmt.Sprint("token", i))
	}
	h.tensor("token_embd.weight", width, tokens).tensor("output_norm.weight", width).tensor("output.weight", width,
		tokens)
	for i := range layers {
		for name, dims := range map[string][]uint64{"attn_norm": {width}, "attn_q": {width, width}, "attn_k": {width, 1024}, "attn_v": {width, 1024},
			"attn_output": {width, width}, "ffn_norm": {width}, "ffn_gate": {width, ff}, "ffn_up": {width, ff}, "ffn_down": {ff, width}} {
			h.tensor(fmt.Sprintf("blk.%d.%s.weight", i, name), dims...)
		}
	}
	return h
}
