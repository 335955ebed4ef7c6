package tree

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// enginesDir is the only package that may know an engine by name.
const enginesDir = "units/engine"

// fixtures are packages that only tests import: they show engines as any data.
var fixtures = []string{"registry/registrytest", "nvml/nvmltest", "test"}

// namedElsewhere are string literals outside of enginesDir that may name an engine, with the
// reason.
var namedElsewhere = map[string]string{}

// generic are kinds that are common words: only a literal that is exactly the kind counts.
var generic = []string{"command"}

// engineNames are the words for engines, read from the adapters, so that a new one counts at once.
type engineNames struct {
	text      *regexp.Regexp // matches a text that names an engine
	kinds     []string       // as pool files name them
	constants []string       // of the kinds
	binaries  []string       // as they are looked up on PATH
}

func namesOf(t *testing.T) (n engineNames) {
	t.Helper()
	values := make(map[string]string)
	for _, f := range goFiles(t) {
		if f.Dir != enginesDir || f.Test() {
			continue
		}
		ast.Inspect(f.AST, func(node ast.Node) bool {
			if spec, ok := node.(*ast.ValueSpec); ok {
				for i := range min(len(spec.Names), len(spec.Values)) {
					if text, ok := literal(spec.Values[i]); ok {
						values[spec.Names[i].Name] = text
					}
				}
			}
			return true
		})
		for _, d := range f.AST.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv == nil || fn.Body == nil || len(fn.Body.List) != 1 {
				continue
			}
			result, ok := fn.Body.List[0].(*ast.ReturnStmt)
			if !ok || len(result.Results) != 1 {
				continue
			}
			switch fn.Name.Name {
			case "Kind":
				if name, ok := result.Results[0].(*ast.Ident); ok {
					n.constants = append(n.constants, name.Name)
				}
			case "DefaultBinary":
				if text, ok := literal(result.Results[0]); ok && text != "" {
					n.binaries = append(n.binaries, text)
				}
			}
		}
	}
	for _, c := range n.constants {
		n.kinds = append(n.kinds, values[c])
	}
	if len(n.kinds) < 5 || len(n.binaries) < 4 || slices.Contains(n.kinds, "") {
		t.Fatalf("the adapters' names were not found: %+v", n)
	}
	n.text = n.pattern()
	return n
}

func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// pattern matches a text that names an engine. The parts of a name that a dash or dot joins count
// together: a model may be called llama3.
func (n engineNames) pattern() *regexp.Regexp {
	words := []string{`llama\.cpp`}
	for _, w := range slices.Concat(n.kinds, n.binaries) {
		if !slices.Contains(generic, w) {
			words = append(words, regexp.QuoteMeta(w))
		}
	}
	return regexp.MustCompile(`(?i)\b(?:` + strings.Join(words, "|") + `)\b`)
}

// TestEnginesAreKnownInOnePlace: only an engine's adapter knows its properties. A package that
// knew one by name would be silently wrong about the next.
func TestEnginesAreKnownInOnePlace(t *testing.T) {
	t.Parallel()
	names := namesOf(t)
	used := make(map[string]bool)
	for _, f := range goFiles(t) {
		if f.Test() || within(f.Dir, enginesDir) || inside(f.Dir, fixtures) {
			continue
		}
		for _, found := range names.in(f.AST) {
			if _, fine := namedElsewhere[found.text]; fine {
				used[found.text] = true
				continue
			}
			t.Errorf("%s: %q names an engine; ask its adapter in %s", f.Fset.Position(found.at), found.text, enginesDir)
		}
	}
	for text := range namedElsewhere {
		if !used[text] {
			t.Errorf("nothing is named %q any longer: remove it from the list", text)
		}
	}
}

type finding struct {
	at   token.Pos
	text string
}

// in lists the literals and names of a file that name an engine.
func (n engineNames) in(file *ast.File) (found []finding) {
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.ImportSpec:
			return false
		case *ast.BasicLit:
			if s, ok := literal(node); ok && (n.text.MatchString(s) || slices.Contains(generic, s)) {
				found = append(found, finding{node.Pos(), s})
			}
		case *ast.SelectorExpr:
			if x, ok := node.X.(*ast.Ident); ok {
				if x.Name == "engine" && slices.Contains(n.constants, node.Sel.Name) {
					found = append(found, finding{node.Pos(), x.Name + "." + node.Sel.Name})
				}
				return false // what another package calls it
			}
		case *ast.Ident:
			low := strings.ToLower(node.Name)
			for _, kind := range n.kinds {
				named := len(kind) > 3 && strings.Contains(low, kind) || strings.HasPrefix(low, kind)
				if named && !slices.Contains(generic, kind) {
					found = append(found, finding{node.Pos(), node.Name})
					break
				}
			}
		}
		return true
	})
	return found
}

// TestEnginesRule shows that the rule would find what it is for.
func TestEnginesRule(t *testing.T) {
	t.Parallel()
	names := namesOf(t)
	for _, c := range []struct {
		name, code string
		want       int
	}{
		{"kind_in_a_comparison", `var x = e == "vllm"`, 1},
		{"kind_in_a_sentence", `var x = "only llamacpp takes it"`, 1},
		{"its_binary", `var x = "/usr/bin/llama-server"`, 1},
		{"its_other_spelling", `var x = "llama.cpp loads a file"`, 1},
		{"constant_of_the_adapter", `var x = engine.LlamaCpp`, 1},
		{"function_name", `func defaultVLLM() {}`, 1},
		{"field_name", `type t struct{ tgiShare float64 }`, 1},
		{"a_generic_kind_alone", `var x = "command"`, 1},
		{"a_generic_word_in_a_sentence", `var x = "a command of its own"`, 0},
		{"a_model", `var x = "poolctl status llama3"`, 0},
		{"what_a_library_calls_it", `var x = gguf.WithLLaMACppContextSize(1)`, 0},
		{"a_comment", "// vLLM does so\nvar x = 1", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := names.in(parsed(t, "package p\n"+c.code)); len(got) != c.want {
				t.Errorf("found %v, want %d", got, c.want)
			}
		})
	}
}
