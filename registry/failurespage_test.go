package registry

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// codesOfSource are all constants of type Code in this package, read from its source, so that a new
// one cannot be forgotten.
func codesOfSource(t *testing.T) (codes []string) {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if kind, ok := spec.Type.(*ast.Ident); ok && kind.Name == "Code" && len(spec.Values) == 1 {
				if value, ok := spec.Values[0].(*ast.BasicLit); ok {
					text, err := strconv.Unquote(value.Value)
					if err != nil {
						t.Fatal(err)
					}
					codes = append(codes, text)
				}
			}
			return true
		})
	}
	if len(codes) < 20 {
		t.Fatalf("only %d codes were found in the source: %v", len(codes), codes)
	}
	return codes
}

// TestFailuresPage: an operator finds every code in the table of failures, with what happens and
// what to do.
func TestFailuresPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "failures.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| ([^|]+) \\| `([A-Z_]+)` \\| ([^|]+) \\| ([^|]+) \\|$")
	var listed []string
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		for _, cell := range m {
			if strings.TrimSpace(cell) == "" {
				t.Errorf("an empty cell in the row of %s", m[2])
			}
		}
		listed = append(listed, m[2])
	}
	for _, code := range codesOfSource(t) {
		if n := len(slices.DeleteFunc(slices.Clone(listed), func(c string) bool { return c != code })); n != 1 {
			t.Errorf("docs/failures.md has %d rows of %s, want one", n, code)
		}
	}
}
