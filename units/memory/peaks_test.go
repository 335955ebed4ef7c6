package memory

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestKeyOfFiles: a file that takes memory is another one when it is replaced, also in place, below
// a directory, or beside a model with a digest.
func TestKeyOfFiles(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(name, content string, age time.Duration) {
		when := time.Unix(1e9, 0).Add(-age)
		if err := os.MkdirAll(filepath.Dir(at(name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(at(name), when, when); err != nil {
			t.Fatal(err)
		}
	}
	brought := func(s pool.Staged, names ...string) pool.Staged {
		for _, name := range names {
			s.Brought = append(s.Brought, at(name))
		}
		s.Files = append(s.Files, s.Brought...)
		return s
	}
	one := func() pool.Staged {
		return pool.Staged{Path: at("m.gguf"), Files: []string{at("m.gguf")}, SizeBytes: 1}
	}
	verified := func() pool.Staged { s := one(); s.Digest = "sha256:x"; return s }
	tree := func() pool.Staged { return pool.Staged{Path: at("tree"), Files: []string{at("tree")}, SizeBytes: 2} }
	two := func() pool.Staged {
		return pool.Staged{Path: at("s-1.gguf"), Files: []string{at("s-1.gguf"), at("s-2.gguf")}, SizeBytes: 2}
	}
	for _, c := range []struct {
		name    string
		staged  func() pool.Staged
		changes string // the file that is replaced by one of the same size
		same    bool
	}{
		{"the_model", one, "m.gguf", false},
		{"a_model_with_a_digest", verified, "m.gguf", true},
		{"a_shard", two, "s-2.gguf", false},
		{"a_shard_below_a_directory", tree, "tree/sub/b.safetensors", false},
		{"a_projector", func() pool.Staged { return brought(one(), "mmproj.gguf") }, "mmproj.gguf", false},
		{"a_projector_beside_a_digest", func() pool.Staged { return brought(verified(), "mmproj.gguf") }, "mmproj.gguf", false},
		{"an_adapter_below_a_directory", func() pool.Staged { return brought(verified(), "lora") }, "lora/adapter.safetensors", false},
		{"of_an_engine_without_a_model", func() pool.Staged { return brought(pool.Staged{}, "mmproj.gguf") }, "mmproj.gguf", false},
		{"what_it_does_not_load", one, "mmproj.gguf", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, name := range []string{"m.gguf", "s-1.gguf", "s-2.gguf", "mmproj.gguf", "tree/a.safetensors", "tree/sub/b.safetensors",
				"lora/adapter.safetensors"} {
				write(name, "x", 0)
			}
			key := func() string { return Key(pool.Pool{Engine: engine.LlamaCpp}, c.staged(), "1", gpus(gib)) }
			before := key()
			write(c.changes, "y", time.Hour)
			if after := key(); (before == after) != c.same {
				t.Errorf("the same key: %t, want %t", before == after, c.same)
			}
		})
	}
	t.Run("a_large_directory_ends", func(t *testing.T) {
		for i := range maxStats + 9 {
			write("many/"+strings.Repeat("x", 1+i%200)+"-"+string(rune('a'+i/200)), "x", 0)
		}
		if id := identity(pool.Staged{Path: at("many"), Files: []string{at("many")}}); len(id) != maxStats {
			t.Errorf("%d entries", len(id))
		}
	})
}
