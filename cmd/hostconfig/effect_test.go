package hostconfig

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestEveryKeyHasAnEffect: no key of config.toml is only accepted. The schema writes each field;
// here the sources of the programs are searched for what reads it.
func TestEveryKeyHasAnEffect(t *testing.T) {
	fields := settingsFields(reflect.TypeFor[Settings](), map[string]bool{})
	for _, dir := range []string{"cmd", "units"} {
		err := filepath.WalkDir(filepath.Join("..", "..", dir), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err == nil {
				ast.Inspect(file, func(n ast.Node) bool { return reads(n, "", fields) })
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(fields) < 25 {
		t.Errorf("only %d fields were found", len(fields))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !fields[name] {
			t.Errorf("no program reads %s: its key has no effect", name)
		}
	}
}

// settingsFields collects "Type.Field" of the settings, but for [defaults], whose fields are those
// of pools.
func settingsFields(of reflect.Type, into map[string]bool) map[string]bool {
	for i := range of.NumField() {
		switch f := of.Field(i); {
		case f.Type == reflect.TypeFor[pool.Pool]() || !f.IsExported():
		case f.Type.Kind() == reflect.Struct:
			settingsFields(f.Type, into)
		default:
			into[of.Name()+"."+f.Name] = false
		}
	}
	return into
}

// reads marks the fields that a node reads. An address is what the schema writes through; owner is
// the type whose method the node is in.
func reads(n ast.Node, owner string, fields map[string]bool) bool {
	switch n := n.(type) {
	case *ast.FuncDecl:
		if n.Recv == nil || n.Body == nil {
			return true
		}
		if receiver, ok := n.Recv.List[0].Type.(*ast.Ident); ok && owner == "" {
			ast.Inspect(n.Body, func(in ast.Node) bool { return reads(in, receiver.Name, fields) })
			return false
		}
	case *ast.UnaryExpr:
		return n.Op != token.AND
	case *ast.AssignStmt: // what is set is not read
		for _, from := range n.Rhs {
			ast.Inspect(from, func(in ast.Node) bool { return reads(in, owner, fields) })
		}
		return false
	case *ast.SelectorExpr:
		of := owner
		switch x := n.X.(type) {
		case *ast.SelectorExpr: // settings.Log.Level
			of = x.Sel.Name
		case *ast.Ident: // host.PortLow, and p.AllowedHosts in a method
			if owner == "" {
				of = strings.ToUpper(x.Name[:1]) + x.Name[1:]
			}
		}
		name := of + "." + n.Sel.Name
		if _, known := fields[name]; known {
			fields[name] = true
		}
	}
	return true
}
