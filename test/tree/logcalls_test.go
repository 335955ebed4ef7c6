package tree

import (
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// logMethods are those of a slog.Logger that write a line.
var logMethods = []string{"Debug", "DebugContext", "Info", "InfoContext", "Warn", "WarnContext", "Error",
	"ErrorContext", "Log", "LogAttrs"}

// poolWords are what gives a line the fields of a pool: the field by which the handler of
// registry.CompleteLog adds the others, or a function that returns them.
var poolWords = []string{"pool_id", "about", "aboutReload", "aboutStart", "aboutUnit", "LogFields"}

// TestLogLinesAboutAPool reads every call that writes a line of the log. One that does not name its
// pool is about none, and its message is in testdata/log/host.txt: so that for each new line a
// person has decided which it is.
func TestLogLinesAboutAPool(t *testing.T) {
	var got []string
	ofPools := 0
	for _, f := range goFiles(t) {
		if f.Test() || within(f.Dir, "test") {
			continue
		}
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			for _, call := range logCalls(fn.Body) {
				if namesPool(call, fn.Body) {
					ofPools++
					continue
				}
				got = append(got, f.Dir+": "+message(call))
			}
		}
	}
	if ofPools < 60 {
		t.Errorf("only %d lines about a pool were found: the test looks in the wrong place", ofPools)
	}
	slices.Sort(got)
	got = slices.Compact(got)
	listed, err := os.ReadFile(filepath.Join("testdata", "log", "host.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(strings.TrimSpace(string(listed)), "\n"), got); diff != "" {
		t.Errorf("lines without a pool (-testdata/log/host.txt +tree). If a line is about a pool, give it pool_id:\n%s",
			diff)
	}
}

// TestLoggersAreNamedLog: the test above knows a logger by its name.
func TestLoggersAreNamedLog(t *testing.T) {
	for _, f := range goFiles(t) {
		if f.Test() || within(f.Dir, "test") {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			field, ok := n.(*ast.Field)
			if !ok || !isLogger(field.Type) {
				return true
			}
			for _, name := range field.Names {
				if strings.ToLower(name.Name) != "log" {
					t.Errorf("%s:%d: the logger is named %s, not log", f.Path, f.line(name.Pos()), name.Name)
				}
			}
			return true
		})
	}
}

// TestLogCallsAreFound: what is a line about a pool, and what is not.
func TestLogCallsAreFound(t *testing.T) {
	for text, want := range map[string]string{
		`s.o.Log.Info("x", "pool_id", id)`:                     "pool",
		`s.o.Log.Info("x", append(s.about(r), "err", err)...)`: "pool",
		`attrs := e.about(); log.Warn("x", attrs...)`:          "pool",
		`log.Warn("x", "unit", "u")`:                           "x",
		`other := e.about(); log.Warn("x: "+other)`:            "x: ",
		`d.log.LogAttrs(ctx, level, fmt.Sprintf("%s y", z))`:   "%s y",
		`math.Log(2); r.Error("x"); l.logged.Info("x")`:        "",
	} {
		body := parsed(t, "package x\nfunc f() { "+text+" }").Decls[0].(*ast.FuncDecl).Body
		got := ""
		for _, call := range logCalls(body) {
			if got = message(call); namesPool(call, body) {
				got = "pool"
			}
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
}

// isLogger reports whether a type is *slog.Logger.
func isLogger(e ast.Expr) bool {
	star, ok := e.(*ast.StarExpr)
	if !ok {
		return false
	}
	sel, ok := star.X.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Logger" {
		return false
	}
	from, ok := sel.X.(*ast.Ident)
	return ok && from.Name == "slog"
}

// logCalls returns the calls in a body that write a line.
func logCalls(body *ast.BlockStmt) (calls []*ast.CallExpr) {
	ast.Inspect(body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && slices.Contains(logMethods, sel.Sel.Name) && isLog(sel.X) {
			calls = append(calls, call)
		}
		return true
	})
	return calls
}

// isLog reports whether an expression is a logger, by its name.
func isLog(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.Ident:
		return strings.EqualFold(e.Name, "log") || e.Name == "slog"
	case *ast.SelectorExpr:
		return strings.EqualFold(e.Sel.Name, "log")
	}
	return false
}

// namesPool reports whether a call has the fields of a pool, or a list of attributes that has them.
func namesPool(call *ast.CallExpr, body *ast.BlockStmt) bool {
	if slices.ContainsFunc(call.Args, func(e ast.Expr) bool { return hasPoolWord(e) }) {
		return true
	}
	if !call.Ellipsis.IsValid() {
		return false
	}
	var lists []string
	ast.Inspect(call.Args[len(call.Args)-1], func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok {
			lists = append(lists, id.Name)
		}
		return true
	})
	found := false
	ast.Inspect(body, func(n ast.Node) bool {
		assign, ok := n.(*ast.AssignStmt)
		if ok && slices.ContainsFunc(assign.Lhs, func(e ast.Expr) bool {
			id, ok := e.(*ast.Ident)
			return ok && slices.Contains(lists, id.Name)
		}) {
			found = found || slices.ContainsFunc(assign.Rhs, hasPoolWord)
		}
		return true
	})
	return found
}

func hasPoolWord(e ast.Expr) (found bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			text, err := strconv.Unquote(n.Value)
			found = found || err == nil && text == "pool_id"
		case *ast.CallExpr:
			switch fn := n.Fun.(type) {
			case *ast.Ident:
				found = found || slices.Contains(poolWords, fn.Name)
			case *ast.SelectorExpr:
				found = found || slices.Contains(poolWords, fn.Sel.Name)
			}
		}
		return true
	})
	return found
}

// message is the first text of a call.
func message(call *ast.CallExpr) (text string) {
	for _, arg := range call.Args {
		ast.Inspect(arg, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING && text == "" {
				text, _ = strconv.Unquote(lit.Value)
			}
			return true
		})
		if text != "" {
			return text
		}
	}
	return "(a variable)"
}
