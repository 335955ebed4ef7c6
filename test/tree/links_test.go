package tree

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ +(.+)$`)
	code    = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	named   = regexp.MustCompile(`docs/[a-z0-9/_.-]+\.md`)
)

// foreignDocs are documents of other projects that comments refer to.
var foreignDocs = []string{"docs/gguf.md"} // ggml's description of the model format

// TestLinks: links of the docs lead to a file of the tree, and to a heading in it.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, name := range files(t, func(p string) bool {
		return path.Ext(p) == ".md" && !strings.Contains(p, "/testdata/")
	}) {
		for _, m := range link.FindAllStringSubmatch(code.ReplaceAllString(read(t, name), ""), -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			file := name
			if target != "" {
				file = path.Join(path.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join(root, file)); err != nil {
				t.Errorf("%s links to %s, which does not exist", name, m[1])
			} else if anchor != "" && !anchors(read(t, file))[anchor] {
				t.Errorf("%s links to %s, but there is no such heading", name, m[1])
			}
		}
	}
}

// TestOrderOfReading: docs/README.md leads to each page that people read.
func TestOrderOfReading(t *testing.T) {
	t.Parallel()
	const first = "docs/README.md"
	linked := make(map[string]bool)
	for _, m := range link.FindAllStringSubmatch(read(t, first), -1) {
		linked[path.Join("docs", m[1])] = true
	}
	for _, name := range files(t, func(p string) bool {
		dir := path.Dir(p)
		return path.Ext(p) == ".md" && (dir == "docs" || dir == "docs/reference") && p != first
	}) {
		if !linked[name] {
			t.Errorf("%s does not link to %s", first, name)
		}
	}
}

// TestNamedDocs: a document that code or a unit file names exists.
func TestNamedDocs(t *testing.T) {
	t.Parallel()
	sources := func(p string) bool {
		return path.Ext(p) == ".go" || strings.HasPrefix(p, "packaging/") &&
			!strings.HasPrefix(p, "packaging/tools/") || p == "Makefile"
	}
	for _, name := range files(t, sources) {
		if strings.HasPrefix(name, "test/tree/") {
			continue
		}
		for _, doc := range named.FindAllString(read(t, name), -1) {
			if slices.Contains(foreignDocs, doc) {
				continue
			}
			if _, err := os.Stat(filepath.Join(root, doc)); err != nil {
				t.Errorf("%s names %s, which does not exist", name, doc)
			}
		}
	}
}

// anchors returns the headings of a document as links name them.
func anchors(doc string) map[string]bool {
	found := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(doc, -1) {
		found[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r) || unicode.IsDigit(r) || r == '-' || r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return found
}
