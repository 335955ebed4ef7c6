package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
)

// TestEnginesPage: the page of engines has a complete pool file of each kind for one GPU and for
// two, and what it says of each is there.
func TestEnginesPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "engines.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]map[int]bool{}
	for _, file := range poolFilesOf(string(page)) {
		p, problems := ParsePool("page.toml", []byte(file), DefaultHost())
		if len(problems) > 0 {
			t.Errorf("%v in\n%s", problems, file)
			continue
		}
		if found[p.Engine] == nil {
			found[p.Engine] = map[int]bool{}
		}
		for _, mask := range p.Devices {
			found[p.Engine][len(mask)] = true
		}
	}
	for _, kind := range engine.Kinds() {
		if !found[kind][1] || !found[kind][2] {
			t.Errorf("docs/engines.md has no pool file of engine %s for one GPU, or none for two", kind)
		}
	}
	for section := range strings.SplitSeq(string(page), "\n## ") {
		if !strings.Contains(section, "    engine = ") {
			continue
		}
		for _, want := range []string{"**Sandbox:**", "**Failures:**"} {
			if !strings.Contains(section, want) {
				name, _, _ := strings.Cut(section, "\n")
				t.Errorf("docs/engines.md: %s has no %s", name, want)
			}
		}
	}
}

// poolFilesOf returns the indented blocks of a page that begin with an engine. An empty line inside
// is followed by a table.
func poolFilesOf(page string) []string {
	var files []string
	open := false
	for line := range strings.Lines(page) {
		text, indented := strings.CutPrefix(line, "    ")
		switch {
		case indented && strings.HasPrefix(text, "engine = "):
			files, open = append(files, text), true
		case open && (indented || strings.TrimSpace(line) == ""):
			files[len(files)-1] += text
		default:
			open = false
		}
	}
	return files
}
