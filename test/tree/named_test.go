package tree

import (
	"go/ast"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

// sourceOnly are paths that exist in the source tree and on no host.
var sourceOnly = regexp.MustCompile(`(^|[^a-z/])(docs|packaging|test|cmd|units|registry)/[a-z]`)

// TestMessagesNameNoSource: what a program prints names nothing that only the source tree has. A
// reader of a hint has the installed package.
func TestMessagesNameNoSource(t *testing.T) {
	t.Parallel()
	found := 0
	for _, f := range goFiles(t) {
		if f.Test() || !inside(f.Dir, ours) {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			if _, isImport := n.(*ast.ImportSpec); isImport {
				return false
			}
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				found++
				if sourceOnly.MatchString(lit.Value) && !strings.Contains(lit.Value, module) {
					t.Errorf("%s: %s names a file of the source tree", f.Fset.Position(lit.Pos()), lit.Value)
				}
			}
			return true
		})
	}
	if found < 1000 {
		t.Fatalf("%d texts in the product: the test looks in the wrong place", found)
	}
}
