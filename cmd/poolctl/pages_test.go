package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

const trouble = "../../docs/troubleshooting.md"

// TestTroubleshootingPage: each output on the page is one that a golden file pins, each state has
// its row, and each command of poolctl that it names exists with its options.
func TestTroubleshootingPage(t *testing.T) {
	data, err := os.ReadFile(trouble)
	if err != nil {
		t.Fatal(err)
	}
	page := string(data)
	shown := outputs(page)
	if len(shown) < 3 {
		t.Errorf("%d outputs on the page", len(shown))
	}
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		t.Fatal("no golden files", err)
	}
	pinned := make(map[string]bool)
	for _, file := range files {
		golden, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text, _, _ := strings.Cut(string(golden), "-- exit status")
		pinned[text] = true
	}
	for _, text := range shown {
		if !pinned[text] {
			t.Errorf("no golden file has this output:\n%s", text)
		}
	}
	for _, s := range registry.States() {
		if !strings.Contains(page, "\n| `"+string(s)+"` | ") {
			t.Errorf("state %s has no row", s)
		}
	}
	h := newHost(t)
	commands := typed(page)
	if len(commands) < 10 {
		t.Errorf("%d commands on the page", len(commands))
	}
	for line := range commands {
		words := strings.Fields(line)
		r := h.run(append(words, "--help")...)
		if r.code != exitOK || !strings.Contains(r.out, "poolctl "+words[0]) {
			t.Errorf("poolctl %s: %d %s", line, r.code, r.errOut)
		}
	}
}

// outputs are the blocks of a page that begin with a command of poolctl at a prompt.
func outputs(page string) (found []string) {
	for block := range strings.SplitSeq(page, "\n\n") {
		block = strings.TrimPrefix(block, "\n")
		if !strings.HasPrefix(block, "    $ poolctl ") {
			continue
		}
		var b strings.Builder
		for line := range strings.Lines(block) {
			b.WriteString(strings.TrimPrefix(strings.TrimSuffix(line, "\n"), "    ") + "\n")
		}
		found = append(found, b.String())
	}
	return found
}

// typed are the commands that a page names in backticks, without poolctl.
func typed(page string) map[string]bool {
	commands := make(map[string]bool)
	for i, part := range strings.Split(page, "`") {
		if line, is := strings.CutPrefix(part, "poolctl "); is && i%2 == 1 {
			commands[line] = true
		}
	}
	return commands
}
