package tree

import (
	"go/ast"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// maxLines is where a file should have become two.
const maxLines = 450

// topFolders are the only folders at the top, docs and dot-files aside.
var topFolders = []string{"cmd", "units", "systemd", "cgroups", "nvml", "registry", "packaging", "test", "docs"}

// noName are package names that say nothing about what the package owns.
var noName = []string{"util", "utils", "common", "helper", "helpers", "types", "manager", "internal", "misc", "base",
	"lib"}

func TestTopFolders(t *testing.T) {
	t.Parallel()
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		name := e.Name()
		if e.IsDir() && !strings.HasPrefix(name, ".") && !slices.Contains(topFolders, name) &&
			!slices.Contains(notSource, name) {
			t.Errorf("%s/ is a top-level directory; the design has only %s", name, strings.Join(topFolders, ", "))
		}
	}
}

// TestPackages: each package has a meaningful name, and a comment that states what it owns.
func TestPackages(t *testing.T) {
	t.Parallel()
	comments := make(map[string]int)
	for _, f := range goFiles(t) {
		name := f.AST.Name.Name
		if slices.Contains(noName, strings.TrimSuffix(name, "_test")) {
			t.Errorf("%s: package %s: name it after what it owns", f.Path, name)
		}
		if f.Test() {
			continue
		}
		comments[f.Dir] += 0
		if f.AST.Doc != nil && strings.TrimSpace(f.AST.Doc.Text()) != "" {
			comments[f.Dir]++
		}
	}
	for dir, n := range comments {
		switch {
		case n == 0:
			t.Errorf("%s has no package comment: say what it owns and what it must not know", dir)
		case n > 1:
			t.Errorf("%s has %d package comments, want one", dir, n)
		}
	}
}

func TestFileLength(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if n := strings.Count(f.Source, "\n"); n > maxLines {
			t.Errorf("%s has %d lines, more than %d: which idea in it wants a file of its own?", f.Path, n, maxLines)
		}
	}
}

// TestNoInit: nothing happens before main.
func TestNoInit(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s: init(): say it where it is needed", f.Fset.Position(fn.Pos()))
			}
		}
	}
}

var unfinished = regexp.MustCompile(`\b(TODO|FIXME|XXX)\b`)

func TestNothingUnfinished(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		for _, group := range f.AST.Comments {
			for _, c := range group.List {
				if m := unfinished.FindString(c.Text); m != "" {
					t.Errorf("%s: %s: finish it, or file an issue", f.Fset.Position(c.Pos()), m)
				}
			}
		}
	}
}

var subtestName = regexp.MustCompile(`^[A-Za-z0-9_./=@:+-]+$`)

// TestSubtestNames: a subtest can be run again as it was printed, without quoting.
func TestSubtestNames(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		if !f.Test() {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 2 {
				return true
			}
			if sel, ok := call.Fun.(*ast.SelectorExpr); !ok || sel.Sel.Name != "Run" {
				return true
			}
			if lit, ok := call.Args[0].(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if name := strings.Trim(lit.Value, "\"`"); !subtestName.MatchString(name) {
					t.Errorf("%s: subtest %s: no spaces and no signs of regular expressions",
						f.Fset.Position(lit.Pos()), lit.Value)
				}
			}
			return true
		})
	}
}
