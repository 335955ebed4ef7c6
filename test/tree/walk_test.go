package tree

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of go.mod, and root its directory, relative to this one.
const (
	module = "github.com/pool-managerd/pool-managerd"
	root   = "../.."
)

// notSource are the folders that .gitignore names, and git's own.
var notSource = []string{".git", "dist", "bin", "build"}

// goFile is one parsed file of the tree.
type goFile struct {
	Path    string // from the root, with slashes
	Dir     string // the folder of it
	Source  string
	Imports []string
	AST     *ast.File
	Fset    *token.FileSet
}

// Test reports whether the file is only compiled for tests.
func (f goFile) Test() bool { return strings.HasSuffix(f.Path, "_test.go") }

// line is the line of a position.
func (f goFile) line(p token.Pos) int { return f.Fset.Position(p).Line }

// files returns the paths of all files of the tree that keep accepts.
func files(t *testing.T, keep func(path string) bool) []string {
	t.Helper()
	found, err := walk(keep)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func walk(keep func(path string) bool) ([]string, error) {
	var found []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if d.IsDir() && slices.Contains(notSource, rel) {
			return fs.SkipDir
		}
		if d.Type().IsRegular() && keep(rel) {
			found = append(found, rel)
		}
		return nil
	})
	if err == nil && len(found) == 0 {
		err = errors.New("no file found: the test looks in the wrong place")
	}
	return found, err
}

// read returns the content of a file of the tree.
func read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// parsedOnce holds what goFiles has parsed, for all tests: none changes it.
var parsedOnce = sync.OnceValues(parseTree)

// goFiles returns every Go file of this module, with any build tags.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	all, err := parsedOnce()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func parseTree() ([]goFile, error) {
	names, err := walk(func(p string) bool {
		return path.Ext(p) == ".go" && !strings.HasPrefix(p, "packaging/tools/") && !strings.Contains(p, "/testdata/")
	})
	if err != nil {
		return nil, err
	}
	all := make([]goFile, 0, len(names))
	for _, name := range names {
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		fset := token.NewFileSet()
		file, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		f := goFile{Path: name, Dir: path.Dir(name), Source: string(src), AST: file, Fset: fset}
		for _, spec := range file.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return nil, err
			}
			f.Imports = append(f.Imports, p)
		}
		all = append(all, f)
	}
	return all, nil
}

// within reports whether a package path is dir or below it.
func within(p, dir string) bool { return p == dir || strings.HasPrefix(p, dir+"/") }

// parsed is a piece of Go as a file.
func parsed(t *testing.T, src string) *ast.File {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	return file
}
