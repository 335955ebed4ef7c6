//go:build machine

package sandbox

import (
	"embed"
	"flag"
	"fmt"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

var whole = flag.Bool("whole", false, "try real PyTorch and node too, and print the table")
var only = flag.String("only", "", "a regular expression of the programs for the table")

//go:embed engines
var engines embed.FS

// started is where the programs are in the machine.
const started = "/usr/lib/sandboxed"

// programs returns what is run: the programs that need nothing but Python, and with -whole those
// that need PyTorch, psutil or node.
func programs(t *testing.T) []Program {
	t.Helper()
	entries, err := engines.ReadDir("engines")
	if err != nil {
		t.Fatal(err)
	}
	var list []Program
	for _, e := range entries {
		name := e.Name()
		interpreter := "/usr/bin/python3"
		if path.Ext(name) == ".js" {
			interpreter = "/usr/bin/node"
		}
		if other := path.Ext(name) == ".js" || strings.Contains(name, "_"); other && !*whole {
			continue
		}
		list = append(list, Program{Name: name, Argv: []string{interpreter, started + "/" + name}})
	}
	return append(list, Program{Name: "taskset", Argv: []string{"/usr/bin/taskset", "-c", "0", "/bin/true"}})
}

// boot starts a machine with the programs.
func boot(t *testing.T) *machine.Machine {
	t.Helper()
	packages := []string{"python3"}
	if *whole {
		packages = append(packages, "python3-torch", "python3-psutil", "nodejs")
	}
	files := []machine.File{{Guest: started, Host: "engines"}}
	return machine.Start(t, machine.Config{Release: machine.Trixie, Packages: packages, Files: files})
}

// runner runs a program in the machine's sandbox.
func runner(t *testing.T, m *machine.Machine, p Program) func(allow []string) (string, bool) {
	return func(allow []string) (string, bool) {
		t.Helper()
		unit, err := File(p, allow)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.WriteFile(t.Context(), "/etc/systemd/system/"+UnitName, []byte(unit), 0o644); err != nil {
			t.Fatal(err)
		}
		res := m.Shell(t.Context(), strings.ReplaceAll(`systemctl daemon-reload
			status=0; timeout 120 systemctl start @unit 2>/dev/null || status=$?
			journalctl --sync
			journalctl -q -o cat --cursor-file=/root/cursor _SYSTEMD_UNIT=@unit
			systemctl stop @unit; systemctl reset-failed @unit 2>/dev/null || :
			exit $status`, "@unit", UnitName))
		if res.Err != nil {
			t.Fatal(res.Err)
		}
		return res.Stdout, res.ExitCode == 0
	}
}

// needs is what the programs of the standard library and of the system need. docs/sandbox.md has
// it, and what is known of others.
var needs = map[string][]string{
	"affinity.py":   {relax.Affinity},
	"closures.py":   nil,
	"interfaces.py": {relax.Netlink},
	"meminfo.py":    {relax.Proc},
	"processes.py":  nil,
	"taskset":       {relax.Affinity},
}

// TestNeeds: a program fails without what it needs, for a reason that is explained, and runs with
// it.
func TestNeeds(t *testing.T) {
	m := boot(t)
	for _, p := range programs(t) {
		allow, known := needs[p.Name]
		if !known {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			run := runner(t, m, p)
			if log, ok := run(allow); !ok {
				t.Fatalf("fails with %v:\n%s", allow, log)
			}
			if len(allow) == 0 {
				return
			}
			log, ok := run(nil)
			if ok {
				t.Error("runs without it")
			}
			found, _ := relax.Explain(relax.Run{Lines: strings.Split(strings.TrimSpace(log), "\n")})
			if !strings.Contains(found.Hint, fmt.Sprintf("allow = [%q]", allow[0])) {
				t.Errorf("explained by %q, want %v:\n%s", found.Hint, allow, log)
			}
		})
	}
}

// TestTable prints what each program needs: make sandbox-table.
func TestTable(t *testing.T) {
	if !*whole {
		t.Skip("tries each relaxation with each program, for half an hour: make sandbox-table")
	}
	m := boot(t)
	var rows []Row
	for _, p := range programs(t) {
		if !regexp.MustCompile(*only).MatchString(p.Name) {
			continue
		}
		began := time.Now()
		run := runner(t, m, p)
		log, _ := run(nil)
		t.Logf("%s, nothing relaxed:\n%s", p.Name, log)
		row := Find(p.Name, relax.Names(), run)
		t.Logf("%s: %v\n%s", p.Name, time.Since(began).Round(time.Millisecond), Print([]Row{row}, relax.Names()))
		rows = append(rows, row)
	}
	t.Log("\n" + Print(rows, relax.Names()))
}
