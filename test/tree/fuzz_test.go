package tree

import (
	"go/ast"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFuzzTargetsHaveSeeds: each fuzz target begins with inputs, in its source or kept beside it.
// The plain tests run them, and a target without any is never run by them.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	targets := 0
	for _, f := range goFiles(t) {
		if !f.Test() {
			continue
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Fuzz") {
				continue
			}
			targets++
			kept, _ := os.ReadDir(filepath.Join(root, f.Dir, "testdata", "fuzz", fn.Name.Name)) // none is none
			if len(kept) == 0 && !adds(fn) {
				t.Errorf("%s: %s has no input to begin with: add some, or keep what make fuzz KEEP=8 finds",
					f.Fset.Position(fn.Pos()), fn.Name.Name)
			}
		}
	}
	if targets < 40 {
		t.Errorf("only %d targets were found", targets)
	}
}

// adds reports whether a fuzz target calls Add.
func adds(fn *ast.FuncDecl) (found bool) {
	ast.Inspect(fn, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
			found = true
		}
		return true
	})
	return found
}
