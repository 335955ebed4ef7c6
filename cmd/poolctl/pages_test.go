package main

import (
	"os"
	"path/filepath"
	"regexp"
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

// longest is how many words a sentence may have that is read at night.
const longest = 25

// Parts of a page that count as one word, or as the words that they show.
var (
	pageLinks = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
	stops     = regexp.MustCompile(`[.!?]\s+`)
	cellStops = regexp.MustCompile(`[.!?;:]\s+`)
)

// TestSentencesAreShort: the two pages that are read when something is wrong have sentences of at
// most 25 words. A cell of a table may be a list, whose parts are counted.
func TestSentencesAreShort(t *testing.T) {
	for _, file := range []string{trouble, "../../docs/failures.md"} {
		page, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for block := range strings.SplitSeq(string(page), "\n\n") {
			block = pageLinks.ReplaceAllString(inTicks.ReplaceAllString(strings.TrimPrefix(block, "\n"), "X"), "$1")
			var sentences []string
			switch {
			case strings.HasPrefix(block, "    "):
			case strings.HasPrefix(block, "|"):
				for cell := range strings.SplitSeq(block, "|") {
					sentences = append(sentences, cellStops.Split(cell, -1)...)
				}
			default:
				sentences = stops.Split(block, -1)
			}
			for _, s := range sentences {
				n++
				if words := strings.Fields(s); len(words) > longest {
					t.Errorf("%s: %d words: %s", file, len(words), strings.Join(words, " "))
				}
			}
		}
		if n < 100 {
			t.Errorf("%s: %d sentences", file, n)
		}
	}
}
