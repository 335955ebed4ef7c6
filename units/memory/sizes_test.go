package memory

import (
	"os"
	"path/filepath"
	"testing"
)

// TestSizes: what is loaded beside a model counts with all of its parts, as a large draft model has
// them.
func TestSizes(t *testing.T) {
	dir := t.TempDir()
	files := map[string]int{"mmproj.gguf": 5, "draft-00001-of-00002.gguf": 7, "draft-00002-of-00002.gguf": 11}
	for name, size := range files {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	beside := []string{filepath.Join(dir, "mmproj.gguf"), filepath.Join(dir, "draft-00001-of-00002.gguf")}
	if got, err := sizes(beside); err != nil || got != 23 {
		t.Errorf("%d bytes (%v), want 23", got, err)
	}
	if _, err := sizes([]string{filepath.Join(dir, "draft-00001-of-00003.gguf")}); err == nil {
		t.Error("a part that is missing is not reported")
	}
}
