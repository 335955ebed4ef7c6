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
	declared := constantsOf[State](t, "states.go", "State")
	if got := States(); !slices.Equal(got, declared) || len(got) < 10 {
		t.Errorf("States() is %v, and the constants are %v: keep one order", got, declared)
	}
	for i, s := range declared {
		if slices.Contains(declared[:i], s) {
			t.Errorf("%s is there twice", s)
		}
	}
}

// constantsOf returns the values of a file's constants of a type, in their order.
func constantsOf[T ~string](t *testing.T, name, kind string) (declared []T) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, named := spec.Type.(*ast.Ident); named && of.Name == kind {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			declared = append(declared, T(value))
		}
		return true
	})
	return declared
}
