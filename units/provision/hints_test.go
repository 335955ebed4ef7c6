package provision

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// command is how a command begins that a hint has people paste. Those that are words of English,
// too, are at the end of a sentence that says what for.
var command = regexp.MustCompile(`(?:^|[ (])(?:chmod|chown|namei|ss|lscpu|readlink|findmnt|sha256sum|openssl|journalctl|` +
	`systemctl|nvidia-smi|nvidia-ctk|poolctl)(?: |,|$)|` +
	`: +(?:find|file|ls|rm|mv|setcap|cd|head|grep|cat|install|sed|apt-get|apt-cache|useradd) |: uname -m`)

// TestEveryHintHasACommand: whatever keeps an engine or its model from being prepared, the hint has
// a command to paste, of the source of each failure. What the commands are is TestHints.
func TestEveryHintHasACommand(t *testing.T) {
	for _, dir := range []string{".", "../bring", "../devices"} {
		sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		p := hints{texts: make(map[string][]ast.Expr)}
		fset := token.NewFileSet()
		var files []*ast.File
		for _, name := range sources {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(fset, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, f)
			p.collect(f)
		}
		failures := 0
		for _, f := range files {
			ast.Inspect(f, func(n ast.Node) bool {
				call, ok := n.(*ast.CallExpr)
				if !ok {
					return true
				}
				if hint := hintOf(call); hint != nil {
					failures++
					if text := p.text(hint, 0); !command.MatchString(text) {
						t.Errorf("%s: no command in the hint %q", fset.Position(call.Pos()), text)
					}
				}
				return true
			})
		}
		if failures < 5 {
			t.Errorf("%s: only %d failures were found", dir, failures)
		}
	}
}

// hintOf is the argument of a call that is the hint of a failure; nil: it is none, or it is handed
// on from a caller.
func hintOf(call *ast.CallExpr) ast.Expr {
	at := -1
	switch f := call.Fun.(type) {
	case *ast.SelectorExpr:
		switch x, _ := f.X.(*ast.Ident); {
		case x != nil && x.Name == "registry" && f.Sel.Name == "Fail":
			at = 2
		case f.Sel.Name == "fail":
			at = 0
		}
	case *ast.Ident:
		switch f.Name {
		case "fail":
			at = 0
			if first, ok := call.Args[0].(*ast.Ident); ok && first.Name == "f" {
				at = 1
			}
			if first, ok := call.Args[0].(*ast.SelectorExpr); ok && first.Sel.Name == "of" {
				at = 1
			}
		case "invalid":
			at = 1
		}
	}
	if at < 0 || at >= len(call.Args) {
		return nil
	}
	switch hint := call.Args[at].(type) {
	case *ast.Ident:
		if hint.Name == "hint" && len(call.Args) == at+1 { // of the function that makes failures
			return nil
		}
	case *ast.SelectorExpr: // of another failure
		return nil
	}
	return call.Args[at]
}

// hints has what is assigned to names, and returned by functions, in a package.
type hints struct{ texts map[string][]ast.Expr }

func (p hints) collect(f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, to := range n.Lhs {
				if name, ok := to.(*ast.Ident); ok && len(n.Lhs) == len(n.Rhs) {
					p.texts[name.Name] = append(p.texts[name.Name], n.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			for i, name := range n.Names {
				if i < len(n.Values) {
					p.texts[name.Name] = append(p.texts[name.Name], n.Values[i])
				}
			}
		case *ast.FuncDecl:
			ast.Inspect(n, func(in ast.Node) bool {
				if r, ok := in.(*ast.ReturnStmt); ok && len(r.Results) == 1 {
					p.texts[n.Name.Name] = append(p.texts[n.Name.Name], r.Results[0])
				}
				return true
			})
		}
		return true
	})
}

// followed are the names that have, or return, hints and parts of them.
var followed = regexp.MustCompile(`^(hint|correct|build|widen|again|find|show|writeKey|sumOfList|thereIs|` +
	`libraryHint|DriverHint)$`)

// text is what an expression has of constant text, its names and functions followed.
func (p hints) text(of ast.Expr, depth int) string {
	var out strings.Builder
	const deep = 4
	ast.Inspect(of, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.BasicLit:
			if n.Kind == token.STRING {
				out.WriteString(strings.Trim(n.Value, "\"`"))
			}
		case *ast.Ident:
			if depth < deep && followed.MatchString(n.Name) {
				for _, from := range p.texts[n.Name] {
					out.WriteString(" " + p.text(from, depth+1))
				}
			}
		case *ast.SelectorExpr:
			switch n.Sel.Name {
			case "Generate": // of units/cdi
				out.WriteString(" nvidia-ctk ")
			case "SearchFor": // of units/binaries
				out.WriteString(" find /usr ")
			}
			return followed.MatchString(n.Sel.Name)
		}
		return true
	})
	return out.String()
}

// pasted has the shell read the command of a hint, which is behind the last ": ", or the whole of
// it.
func pasted(t *testing.T, hint string) string {
	t.Helper()
	text := hint
	if i := strings.LastIndex(hint, ": "); i >= 0 {
		text = hint[i+2:]
	}
	if out, err := exec.Command("sh", "-n", "-c", text).CombinedOutput(); err != nil {
		t.Errorf("the shell does not read %q: %s", text, out)
	}
	return text
}
