package restarts

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// codesOf lists the codes of a class, in order.
func codesOf(c Class) []string {
	var codes []string
	for code, class := range classes() {
		if class == c {
			codes = append(codes, "`"+string(code)+"`")
		}
	}
	slices.Sort(codes)
	return codes
}

// declared reads the values of all constants of type Code from the registry's source.
func declared(t *testing.T) []registry.Code {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "registry", "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var codes []registry.Code
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != 1 {
				return true
			}
			kind, _ := spec.Type.(*ast.Ident)
			value, _ := spec.Values[0].(*ast.BasicLit)
			if kind != nil && kind.Name == "Code" && value != nil {
				text, err := strconv.Unquote(value.Value)
				if err != nil {
					t.Fatal(err)
				}
				codes = append(codes, registry.Code(text))
			}
			return true
		})
	}
	return codes
}

// TestEveryCodeHasAClass: a new code of the registry needs a class.
func TestEveryCodeHasAClass(t *testing.T) {
	codes := declared(t)
	if len(codes) < 20 {
		t.Fatalf("only %d codes were found", len(codes))
	}
	for _, code := range codes {
		if _, ok := classes()[code]; !ok {
			t.Errorf("%s has no class", code)
		}
	}
	ends := map[Class]bool{}
	for _, class := range classes() {
		if class != Unknown {
			ends[class] = true
		}
	}
	if listed := Classes(); len(listed) != len(ends) || slices.ContainsFunc(listed, func(c Class) bool {
		return !ends[c]
	}) {
		t.Errorf("Classes lists %q, and the codes have %v", listed, ends)
	}
	if got := ClassOf("SOMETHING_NEW"); got != Unknown {
		t.Errorf("an unknown code is %q", got)
	}
}

// TestEveryClassHasAdvice: no two classes of ended runs have the same advice.
func TestEveryClassHasAdvice(t *testing.T) {
	by := map[string]Class{}
	for _, c := range classes() {
		if other, ok := by[c.Advice()]; ok && other != c {
			t.Errorf("%s and %s have the same advice", c, other)
		}
		by[c.Advice()] = c
	}
}
