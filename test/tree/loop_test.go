package tree

import (
	"go/ast"
	"testing"
)

// maxParts is how many parts the loop's data about a replica may have: each is owned by one file.
const maxParts = 12

// TestReplicaHasParts: what the loop knows of a replica is in parts with an owner, and not in one
// long list.
func TestReplicaHasParts(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if f.Path != "units/supervise/replica.go" {
			continue
		}
		fields := fieldsOf(f.AST, "replica")
		if fields == 0 || fields > maxParts {
			t.Errorf("%s: replica has %d fields, want at most %d", f.Path, fields, maxParts)
		}
		return
	}
	t.Error("units/supervise/replica.go is not there")
}

// fieldsOf counts the fields of a struct type of a file, 0 where there is none of the name.
func fieldsOf(file *ast.File, name string) int {
	n := 0
	ast.Inspect(file, func(node ast.Node) bool {
		spec, ok := node.(*ast.TypeSpec)
		if !ok || spec.Name.Name != name {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range st.Fields.List {
				n += max(len(field.Names), 1)
			}
		}
		return false
	})
	return n
}

// TestFactsHaveOneWriter: one function computes what is decided on, so that no fact is set in one
// place and forgotten in another.
func TestFactsHaveOneWriter(t *testing.T) {
	t.Parallel()
	makers := 0
	for _, f := range goFiles(t) {
		if f.Test() || f.Dir == "units/reconcile" {
			continue
		}
		for _, decl := range f.AST.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				if makesFacts(decl) {
					t.Errorf("%s: reconcile.Facts is kept; compute it where it is needed", f.Path)
				}
				continue
			}
			switch made := makesFacts(fn); {
			case made && f.Path == "units/supervise/facts.go" && fn.Name.Name == "facts":
				makers++
			case made:
				t.Errorf("%s:%d: %s makes or changes reconcile.Facts; only facts in units/supervise/facts.go does",
					f.Path, f.line(fn.Pos()), fn.Name.Name)
			}
		}
	}
	if makers != 1 {
		t.Errorf("%d functions make reconcile.Facts, want one", makers)
	}
}

// makesFacts reports whether a declaration makes a reconcile.Facts, keeps one, or changes one that
// it was given.
func makesFacts(decl ast.Decl) bool {
	found := false
	given := make(map[string]bool) // names of Facts in it
	ast.Inspect(decl, func(node ast.Node) bool {
		switch v := node.(type) {
		case *ast.CompositeLit:
			found = found || isFacts(v.Type)
		case *ast.ValueSpec:
			found = found || isFacts(v.Type)
		case *ast.StructType:
			for _, field := range v.Fields.List {
				found = found || isFacts(field.Type)
			}
		case *ast.Field:
			if isFacts(v.Type) {
				for _, name := range v.Names {
					given[name.Name] = true
				}
			}
		case *ast.AssignStmt:
			for i, left := range v.Lhs {
				if name, ok := left.(*ast.Ident); ok && i < len(v.Rhs) && callsFacts(v.Rhs[i]) {
					given[name.Name] = true
				}
				if sel, ok := left.(*ast.SelectorExpr); ok {
					if name, ok := sel.X.(*ast.Ident); ok && given[name.Name] {
						found = true
					}
				}
			}
		}
		return true
	})
	return found
}

// isFacts reports whether a type is reconcile.Facts, or a pointer to it.
func isFacts(e ast.Expr) bool {
	if star, ok := e.(*ast.StarExpr); ok {
		return isFacts(star.X)
	}
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	of, ok := sel.X.(*ast.Ident)
	return ok && of.Name == "reconcile" && sel.Sel.Name == "Facts"
}

// callsFacts reports whether an expression is a call of the method facts.
func callsFacts(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "facts"
}
