package config

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// refusalCase is a pool file that leads to one refusal of an engine's or a unit's.
type refusalCase struct {
	site string // how the refusal's message begins in the source
	file string // the pool file, without what least adds
	want string // what the check says, a regular expression; "" stands for the message of the site
}

// least is what refusal cases start with.
const least = "model = \"file:/srv/a.gguf\"\nengine = \"llamacpp\"\n"

// refusalCases has a case for each place in the source that refuses a key of a pool: some of them
// the check finds by the key's own type, before the engine is asked.
var refusalCases = []refusalCase{
	{"%s, which pool-managerd sets for engine %q", `args = ["--flash-attn", "--host=0.0.0.0"]`, `args\[1\] is --host, which pool-managerd sets`},
	{"args[%d] is %s %d, and replica", "devices = [0, 1]\nargs = [\"-mg\", \"2\"]", ""},
	{"engine %q needs a model", "model = \"\"", "model does not begin with a scheme"},
	{"args[%d] is %s, and llama-server reads no value", `args = ["--mmproj=/srv/x.gguf"]`, ""},
	{"--api-prefix %q is no path", `args = ["--api-prefix", "x"]`, ""},
	{"engine %q runs on GPUs only", "engine = \"trtllm\"\ndevices = []", ""},
	{"tensor_split has no meaning", "engine = \"vllm\"\ndevices = [0]\ntensor_split = [1.0]", ""},
	{"tensor_split has %d shares", "devices = [0, 1]\ntensor_split = [1.0]", "tensor_split has 1 shares and"},
	{"%s, which %s", `args = ["--reuse-port"]`, `args\[0\] is --reuse-port, which lets two engines listen`},
	{"[sandbox] network is none, and engine %q", "engine = \"triton\"\ndevices = [0]\n[sandbox]\nnetwork = \"none\"", ""},
	{"[sandbox] network is none, and PID 1", "[health]\nprobe = \"tcp\"\n[sandbox]\nnetwork = \"none\"", ""},
	{"ctx has no meaning", "engine = \"triton\"\nctx = 1024", ""},
	{"model %q %s", `model = "file:/srv/my models/a.gguf"`, "model is .* holds a space"},
	{"path %q %s", `model = "file:/srv/it's/a.gguf"`, "model is .* holds a space, a colon, a quote"},
	{"provisioning.binary is a Python", "[provisioning]\nbinary = \"/opt/e/bin/python3\"", ""},
	{"provisioning.binary %s", "[provisioning]\nbinary = \"/usr/\\u0000\"", "provisioning.binary is .* has a control character"},
	{"provisioning.binary %q %s", "[provisioning]\nbinary = \"/home/a b/llama-server\"", ""},
	{"%s %s", `args = ["a\u0000b"]`, `args\[0\] is .* has a NUL character`},
	{"api_key_file is set, and engine", "engine = \"triton\"\napi_key_file = \"/etc/key\"", ""},
	{"args[%d] is %s beside", "api_key_file = \"/etc/key\"\nargs = [\"--api-key\", \"x\"]", ""},
	{"%s holds %s beside", "api_key_file = \"/etc/key\"\nenv = { LLAMA_API_KEY = \"x\" }", ""},
	{"%s is %q, a relative path", `args = ["--jinja", "--mmproj", "mmproj.gguf"]`, `args\[2\] \(--mmproj\) is "mmproj.gguf", a relative`},
	{"%s is %q, which %s", "env = { LLAMA_ARG_MMPROJ = \"/run/a.gguf\" }", `env.LLAMA_ARG_MMPROJ is "/run/a.gguf", which is in /run`},
	{"%s holds %s, which pool-managerd sets", "env = { HOME = \"/root\" }", ""},
	{"%s holds %s, whose every value", "env = { GGML_CUDA_ENABLE_UNIFIED_MEMORY = \"0\" }", ""},
	{"env key %q is no name", "env = { A-B = \"\" }", `env\.A-B is not the name of a variable`},
	{"variable %s of %s %s", "env = { A = \"a\\u0000b\" }", `env\.A has a line break or a NUL`},
	{"health.path %q is no path", "[health]\npath = \"a b\"", "health.path .* does not begin with /"},
	{"[limits]: %v", "[limits]\ncpus = \"3-1\"", "limits.cpus .* is not a list of CPUs"},
}

// TestCheckFindsEveryRefusal: what an engine's adapter or a unit refuses, the check of the files
// refuses before, with file, line and column. A new refusal in the source needs a case.
func TestCheckFindsEveryRefusal(t *testing.T) {
	sites := refusalSites(t)
	for _, c := range refusalCases {
		name := regexp.MustCompile(`[^a-z]+`).ReplaceAllString(c.site, "_")
		t.Run(name, func(t *testing.T) {
			want := c.want
			found := false
			for format := range sites {
				if strings.HasPrefix(format, c.site) {
					found = true
					delete(sites, format)
					if want == "" {
						want = messagePattern(format)
					}
				}
			}
			if !found {
				t.Fatalf("nothing in the source refuses with %q", c.site)
			}
			p, problems := ParsePool("a.toml", []byte(withLeast(c.file)), DefaultHost())
			if p != nil || len(problems) != 1 {
				t.Fatalf("pool %v, problems %v, want one", p, problems)
			}
			problem := problems[0]
			if !regexp.MustCompile(want).MatchString(problem.Message) || problem.File == "" || problem.Line == 0 ||
				problem.Column == 0 || problem.Key == "" {
				t.Errorf("%+v, want the message %s and its place", problem, want)
			}
		})
	}
	for format, place := range sites {
		t.Errorf("%s refuses with %q, and no case here shows that a check of the files does", place, format)
	}
}

// withLeast adds the keys that every pool file has, but for those that the file gives.
func withLeast(file string) string {
	var b strings.Builder
	for line := range strings.Lines(least) {
		key, _, _ := strings.Cut(line, " ")
		if !strings.HasPrefix(file, key+" ") && !strings.Contains(file, "\n"+key+" ") {
			b.WriteString(line)
		}
	}
	return b.String() + file + "\n"
}

// messagePattern is a format of fmt as a regular expression of what it prints.
func messagePattern(format string) string {
	return regexp.MustCompile(`%[a-z]`).ReplaceAllString(regexp.QuoteMeta(format), ".*")
}

// refusalSites returns the message of each refusal in the source, with its place. The test fails
// where one is made in another way.
func refusalSites(t *testing.T) map[string]string {
	t.Helper()
	sites := make(map[string]string)
	for _, dir := range []string{"engine", "render", "confine"} {
		files, err := filepath.Glob(filepath.Join("..", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("no source in %s: %v", dir, err)
		}
		for _, name := range files {
			if !strings.HasSuffix(name, "_test.go") {
				refusalsOf(t, name, sites)
			}
		}
	}
	return sites
}

func refusalsOf(t *testing.T, name string, sites map[string]string) {
	t.Helper()
	src, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	file, err := parser.ParseFile(fset, name, src, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			if !isSelector(n.Fun, "pool", "Refuse") {
				return true
			}
			format, ok := n.Args[2].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: the message of a refusal is no literal", fset.Position(n.Pos()))
				return true
			}
			text, err := strconv.Unquote(format.Value)
			if err != nil {
				t.Fatal(err)
			}
			sites[text] = fset.Position(n.Pos()).String()
		case *ast.CompositeLit:
			if isSelector(n.Type, "pool", "Refusal") {
				t.Errorf("%s: make it with pool.Refuse", fset.Position(n.Pos()))
			}
		case *ast.SelectorExpr:
			if isSelector(n, "registry", "CodeConfigInvalid") && !strings.HasSuffix(name, "render/render.go") {
				t.Errorf("%s: refuse a pool's key with pool.Refuse, so that a check of the files finds it",
					fset.Position(n.Pos()))
			}
		}
		return true
	})
}

func isSelector(e ast.Expr, pkg, name string) bool {
	s, ok := e.(*ast.SelectorExpr)
	if !ok || s.Sel.Name != name {
		return false
	}
	x, ok := s.X.(*ast.Ident)
	return ok && x.Name == pkg
}
