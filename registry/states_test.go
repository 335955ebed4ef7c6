package registry

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"testing"
)

// TestStatesHasEachState: the list holds each constant of the package once.
func TestStatesHasEachState(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "states.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var declared []State
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, named := spec.Type.(*ast.Ident); named && kind.Name == "State" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared = append(declared, State(value))
		}
		return true
	})
	if got := States(); !slices.Equal(got, declared) || len(got) < 10 {
		t.Errorf("States() is %v, and the constants are %v: keep one order", got, declared)
	}
	for i, s := range declared {
		if slices.Contains(declared[:i], s) {
			t.Errorf("%s is there twice", s)
		}
	}
}
