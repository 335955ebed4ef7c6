package tree

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
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

// TestFuzzTotalsNameEachTarget: the page of how many inputs were tried has a row for each target,
// also for one that was tried with none, and no row for one that is gone.
func TestFuzzTotalsNameEachTarget(t *testing.T) {
	const page = "docs/reference/fuzz.md"
	rows := make(map[string]bool)
	for _, m := range regexp.MustCompile(`(?m)^\| (\S+\.Fuzz\w+) \|`).FindAllStringSubmatch(read(t, page), -1) {
		rows[m[1]] = true
	}
	for name := range tests(t) {
		if target := strings.Replace(name, ": ", ".", 1); strings.Contains(name, ": Fuzz") {
			if !rows[target] {
				t.Errorf("%s has no row for %s", page, target)
			}
			delete(rows, target)
		}
	}
	for target := range rows {
		t.Errorf("%s has a row for %s, which is no target", page, target)
	}
}

// TestFuzzTargetsTryMany: each fuzz target can try inputs that coverage does not guide.
func TestFuzzTargetsTryMany(t *testing.T) {
	for _, f := range goFiles(t) {
		for i, line := range strings.Split(f.Source, "\n") {
			bare := strings.Contains(line, "f.Fuzz(") && !strings.Contains(line, "f.Fuzz(mutate.Many(")
			if bare && f.Dir != "test/tree" {
				t.Errorf("%s:%d: f.Fuzz without mutate.Many, so that make fuzz MANY=N tries nothing", f.Path, i+1)
			}
		}
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
