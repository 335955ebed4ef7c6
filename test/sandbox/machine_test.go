//go:build machine

package sandbox

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/test/tinymodel"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

var whole = flag.Bool("whole", false, "try real PyTorch and vLLM too, and print the table")
var from = flag.String("from", "", "relaxations to begin with, as a,b, where earlier runs showed that they are needed")
var only = flag.String("only", "", "a regular expression of the programs for the table")

// started is where the programs are in the machine.
const started = "/usr/lib/sandboxed"

// interpreters run the programs, by the ends of their names.
var interpreters = map[string]string{".py": "/usr/bin/python3", ".js": "/usr/bin/node", ".lua": "/usr/bin/luajit"}

// programs returns what is run: the programs whose names have a "_" need more than an interpreter.
func programs(t *testing.T, large bool) []Program {
	t.Helper()
	entries, err := os.ReadDir("engines")
	if err != nil {
		t.Fatal(err)
	}
	var list []Program
	for _, e := range entries {
		name := e.Name()
		if strings.Contains(name, "_") != large || strings.HasPrefix(name, engine.VLLM) {
			continue
		}
		list = append(list, Program{Name: name, Argv: []string{interpreters[path.Ext(name)], started + "/" + name}})
	}
	if large {
		return list
	}
	return append(list, Program{Name: "taskset", Argv: []string{"/usr/bin/taskset", "-c", "0", "/bin/true"}})
}

// boot starts a machine with the programs.
func boot(t *testing.T, cfg machine.Config) *machine.Machine {
	t.Helper()
	cfg.Release = machine.Trixie
	cfg.Files = append(cfg.Files, machine.File{Guest: started, Host: "engines"})
	return machine.Start(t, cfg)
}

// bootSmall starts a machine for the programs that need an interpreter alone.
func bootSmall(t *testing.T) *machine.Machine {
	t.Helper()
	return boot(t, machine.Config{Packages: []string{"python3", "nodejs", "luajit"}})
}

// runner runs a program in the machine's sandbox.
func runner(t *testing.T, m *machine.Machine, p Program) func(allow []string) Outcome {
	return func(allow []string) Outcome {
		t.Helper()
		began := time.Now()
		out, err := Run(t.Context(), m, p, allow)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s with %v: ok %t %s after %s", p.Name, allow, out.OK, out.Signal,
			time.Since(began).Round(time.Millisecond))
		return out
	}
}

// needs is what the programs of the standard libraries and of the system need. docs/sandbox.md has
// it, and what is known of others.
var needs = map[string][]string{
	"affinity.py":   {relax.Affinity},
	"closures.py":   nil,
	"interfaces.py": {relax.Netlink},
	"loop.js":       {relax.JIT},
	"loop.lua":      {relax.JIT},
	"meminfo.py":    {relax.Proc},
	"processes.py":  nil,
	"taskset":       {relax.Affinity},
}

// TestNeeds: a program fails without what it needs, for a reason that is explained, and runs with
// it. node and LuaJIT are compilers at run time as people have them: the first ends by SIGTRAP.
func TestNeeds(t *testing.T) {
	m := bootSmall(t)
	for _, p := range programs(t, false) {
		t.Run(p.Name, func(t *testing.T) {
			allow, known := needs[p.Name]
			if !known {
				t.Fatal("no row of needs")
			}
			run := runner(t, m, p)
			if out := run(allow); !out.OK {
				t.Fatalf("fails with %v:\n%s", allow, out.Log)
			}
			if len(allow) == 0 {
				return
			}
			out := run(nil)
			if out.OK {
				t.Error("runs without it")
			}
			if p.Name == "loop.js" && out.Signal != "SIGTRAP" {
				t.Errorf("node ended by %q", out.Signal)
			}
			lines := strings.Split(strings.TrimSpace(out.Log), "\n")
			found, _ := relax.Explain(relax.Run{Lines: lines, Signal: out.Signal})
			if !strings.Contains(found.Hint, fmt.Sprintf("allow = [%q]", allow[0])) {
				t.Errorf("explained by %q, want %v:\n%s", found.Hint, allow, out.Log)
			}
		})
	}
}

// TestTable prints what each program needs: make sandbox-table.
func TestTable(t *testing.T) {
	if !*whole {
		t.Skip("installs PyTorch and vLLM, and runs each several times, for half an hour: make sandbox-table")
	}
	var rows []Row
	for _, part := range []struct {
		programs []Program
		boot     func(*testing.T) *machine.Machine
	}{
		{programs(t, false), bootSmall},
		{programs(t, true), func(t *testing.T) *machine.Machine {
			return boot(t, machine.Config{Packages: []string{"python3", "python3-torch", "python3-psutil", "nodejs"}})
		}},
		{[]Program{vllm}, bootVLLM},
	} {
		var m *machine.Machine
		for _, p := range part.programs {
			if !regexp.MustCompile(*only).MatchString(p.Name) {
				continue
			}
			if m == nil {
				m = part.boot(t)
			}
			run := runner(t, m, p)
			row := Find(p.Name, relax.Names(), beginning(), func(allow []string) Outcome {
				out := run(allow)
				t.Logf("%s with %v:\n%s", p.Name, allow, out.Log)
				return out
			})
			rows = append(rows, row)
		}
	}
	t.Log("\n" + Print(rows))
}

// beginning are the relaxations of the flag -from.
func beginning() []string {
	if *from == "" {
		return nil
	}
	return strings.Split(*from, ",")
}

// vllm is a real vLLM with a model of 1.6 MB.
var vllm = Program{Name: "vllm_serve.py",
	Argv: []string{started + "/vllm_serve.py", "--enforce-eager", "--dtype", "float32"},
	Kind: engine.VLLM, Model: "/srv/models/a", Env: map[string]string{"VLLM_CPU_KVCACHE_SPACE": "1"}}

// bootVLLM starts a machine with the vLLM that make test-engines installs.
func bootVLLM(t *testing.T) *machine.Machine {
	t.Helper()
	packages := []string{"python3", "python3-venv", "libnuma1", "libpython3.13"}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join("..", "e2e", "testdata", "engines", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	dir, err := machine.BuildPython(t.Context(), machine.Python{
		Recipe: machine.Recipe{Release: machine.Trixie, Packages: packages}, Guest: "/opt/vllm",
		Requirements: read("vllm.txt"), After: read("vllm-after.sh"),
	}, func(line string) { t.Log(line) })
	if err != nil {
		t.Fatal(err)
	}
	model := filepath.Join(t.TempDir(), "a")
	if err := tinymodel.WriteDirectory(model, 1); err != nil {
		t.Fatal(err)
	}
	return boot(t, machine.Config{Packages: packages, Files: []machine.File{{Guest: vllm.Model, Host: model}},
		Binds: []machine.Bind{{Guest: "/opt/vllm", Host: dir}}})
}
