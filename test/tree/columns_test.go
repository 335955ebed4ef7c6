package tree

import (
	"go/ast"
	"strings"
	"testing"
)

// The widest lines, a tab counted as four columns.
const (
	maxColumns        = 120
	maxCommentColumns = 100
)

// TestColumns: a line of code can be read beside another window. Rows of tables (elements of a
// slice, an array or a map that stretch over lines) are exempt, for a broken row is harder to read,
// and so are raw strings.
func TestColumns(t *testing.T) {
	t.Parallel()
	for _, f := range goFiles(t) {
		table := tableLines(f)
		inRaw := rawStringLines(f)
		for i, line := range strings.Split(f.Source, "\n") {
			n, columns := i+1, columns(line)
			comment := strings.HasPrefix(strings.TrimSpace(line), "//")
			switch {
			case table[n] || inRaw[n] || directive(line):
			case comment && columns > maxCommentColumns && strings.Contains(strings.TrimSpace(line)[2:], " "):
				t.Errorf("%s:%d: a comment of %d columns, more than %d", f.Path, n, columns, maxCommentColumns)
			case !comment && columns > maxColumns:
				t.Errorf("%s:%d: %d columns, more than %d", f.Path, n, columns, maxColumns)
			}
		}
	}
}

// directive reports whether a comment is for a program, or preformatted.
func directive(line string) bool {
	text, ok := strings.CutPrefix(strings.TrimSpace(line), "//")
	return ok && (strings.HasPrefix(text, "go:") || strings.HasPrefix(text, "lint:") || strings.HasPrefix(text, "\t"))
}

func columns(line string) int {
	n := 0
	for _, r := range line {
		if r == '\t' {
			n += 4 - n%4
		} else {
			n++
		}
	}
	return n
}

// tableLines returns the lines of the elements of slices, arrays and maps that are written over
// several lines. An element that holds a function with a body of its own is code, not a row.
func tableLines(f goFile) map[int]bool {
	rows := make(map[int]bool)
	ast.Inspect(f.AST, func(n ast.Node) bool {
		lit, ok := n.(*ast.CompositeLit)
		if !ok || len(lit.Elts) < 2 || f.line(lit.Lbrace) == f.line(lit.Rbrace) {
			return true
		}
		switch lit.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
		default:
			return true
		}
		for _, e := range lit.Elts {
			if hasBody(f, e) {
				continue
			}
			for l := f.line(e.Pos()); l <= f.line(e.End()); l++ {
				rows[l] = true
			}
		}
		return true
	})
	return rows
}

func hasBody(f goFile, e ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		if fn, ok := n.(*ast.FuncLit); ok && f.line(fn.Pos()) != f.line(fn.End()) {
			found = true
		}
		return !found
	})
	return found
}

// rawStringLines returns the lines of raw string literals, which cannot be broken: scripts, JSON,
// regular expressions.
func rawStringLines(f goFile) map[int]bool {
	lines := make(map[int]bool)
	ast.Inspect(f.AST, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok && strings.HasPrefix(lit.Value, "`") {
			for l := f.line(lit.Pos()); l <= f.line(lit.End()); l++ {
				lines[l] = true
			}
		}
		return true
	})
	return lines
}
