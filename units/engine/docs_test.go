package engine_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
)

// TestPagesNameEveryEngine: the pages that are written by hand and tell engines apart name each.
func TestPagesNameEveryEngine(t *testing.T) {
	for _, name := range []string{"man/pool-file.5", "sandbox.md", "reference/memory.md"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "docs", filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		page := strings.ToLower(string(text))
		for _, kind := range engine.Kinds() {
			if !strings.Contains(page, kind) {
				t.Errorf("docs/%s does not name engine %s", name, kind)
			}
			a, _ := engine.For(kind)
			if claim := a.Claim(wanted(kind), ""); name == "reference/memory.md" &&
				!strings.Contains(page, claim.Flag) {
				t.Errorf("docs/%s does not name %s of engine %s", name, claim.Flag, kind)
			}
		}
	}
}
