package tree

import (
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
)

// maxBranches is how many ways a function may have through it: one more than its branches (the
// cyclomatic complexity of McCabe).
const maxBranches = 20

// TestBranches: no function has more conditions than a reader can keep in mind.
func TestBranches(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.Test() {
			continue
		}
		for _, decl := range f.AST.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok {
				if n := branches(fn); n > maxBranches {
					t.Errorf("%s:%d: %s has %d ways through it, more than %d", f.Path, f.line(fn.Pos()), fn.Name.Name,
						n, maxBranches)
				}
			}
		}
	}
}

// branches counts the ways through a function, those of the functions inside it too.
func branches(fn *ast.FuncDecl) int {
	n := 1
	ast.Inspect(fn, func(node ast.Node) bool {
		switch v := node.(type) {
		case *ast.IfStmt, *ast.ForStmt, *ast.RangeStmt:
			n++
		case *ast.CaseClause:
			if v.List != nil {
				n++
			}
		case *ast.CommClause:
			if v.Comm != nil {
				n++
			}
		case *ast.BinaryExpr:
			if v.Op == token.LAND || v.Op == token.LOR {
				n++
			}
		}
		return true
	})
	return n
}

func TestBranchesCounts(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int{
		`x()`:                    1,
		`if a && b || c { x() }`: 4,
		`for range n { if a { x() } else { y() } }`:            3,
		`switch { case a: x(); case b, c: y(); default: z() }`: 3,
		`select { case <-a: x(); default: y() }`:               2,
		`go func() { if a { x() } }()`:                         2,
	} {
		file, err := parser.ParseFile(token.NewFileSet(), "a.go", "package a\nfunc f() { "+body+" }", 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := branches(file.Decls[0].(*ast.FuncDecl)); got != want {
			t.Errorf("%s: %d ways, want %d", body, got, want)
		}
	}
}
