package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// phrases are log lines that name what is missing, by relaxation.
var phrases = map[string]string{
	relax.Netlink:  "getifaddrs: Address family not supported by protocol",
	relax.Proc:     "No such file or directory: '/proc/meminfo'",
	relax.Affinity: "sched_setaffinity: Operation not permitted",
	relax.JIT:      "no reason",
}

// needing is a program that needs these relaxations, in this order.
func needing(names ...string) func([]string) Outcome {
	return func(allow []string) Outcome {
		for _, n := range names {
			if !slices.Contains(allow, n) {
				return Outcome{Log: "a\n" + phrases[n] + "\n"}
			}
		}
		return Outcome{OK: true}
	}
}

// TestFind: what a program needs is found by following the hints, and by taking each away where no
// hint leads there; one that fails whatever is relaxed shows nothing.
func TestFind(t *testing.T) {
	for _, c := range []struct {
		name   string
		run    func([]string) Outcome
		needs  []string
		hinted bool
		row    string
	}{
		{"two", needing(relax.Netlink, relax.Proc), []string{relax.Netlink, relax.Proc}, true,
			"| two | `netlink`, `proc` | yes | getifaddrs: Address"},
		{"none", needing(), nil, false, "| none | nothing |  | works |"},
		{"unexplained", needing(relax.Affinity, relax.JIT), []string{relax.Affinity, relax.JIT}, false,
			"| unexplained | `jit`, `affinity` | no | sched_setaffinity"},
		{"by_signal", func(allow []string) Outcome {
			return Outcome{Signal: "SIGTRAP", OK: slices.Contains(allow, relax.JIT)}
		}, []string{relax.JIT}, true, "| by_signal | `jit` | yes |"},
	} {
		row := Find(c.name, relax.Names(), nil, c.run)
		for _, name := range relax.Names() {
			want := NotNeeded
			if slices.Contains(c.needs, name) {
				want = Needed
			}
			if row.Needs[name] != want {
				t.Errorf("%s: %s is %q, want %q", c.name, name, row.Needs[name], want)
			}
		}
		if row.Hinted != c.hinted || row.Strict != (len(c.needs) == 0) {
			t.Errorf("%s: %+v", c.name, row)
		}
		if out := Print([]Row{row}); !strings.Contains(out, c.row) {
			t.Errorf("no %q in\n%s", c.row, out)
		}
	}
	broken := Find("broken", relax.Names(), nil, func([]string) Outcome { return Outcome{Log: "x"} })
	if broken.Needs[relax.JIT] != Unknown || !strings.Contains(Print([]Row{broken}), "| broken | unknown | no | x |") {
		t.Errorf("%+v", broken)
	}
	begun := Find("begun", relax.Names(), []string{relax.JIT}, needing(relax.JIT, relax.Proc))
	if begun.Needs[relax.JIT] != Needed || begun.Needs[relax.Proc] != Needed || begun.Strict || !begun.Hinted {
		t.Errorf("%+v", begun)
	}
	// What a vague hint names too much is not needed.
	vague := Find("vague", relax.Names(), nil, func(allow []string) Outcome {
		return Outcome{Log: "x: Operation not permitted", OK: slices.Contains(allow, relax.NUMA)}
	})
	if vague.Needs[relax.NUMA] != Needed || vague.Needs[relax.Affinity] != NotNeeded || !vague.Hinted {
		t.Errorf("%+v", vague)
	}
}

// TestFile: the unit has the sandbox of the pool, and ends with the program. A kind of engine
// brings its arguments along, and relaxes nothing by itself.
func TestFile(t *testing.T) {
	unit, err := File(Program{Name: "x", Argv: []string{"/usr/bin/python3", "/x.py"}}, []string{relax.Netlink})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Type=oneshot\n", "AF_NETLINK\n", "MemoryDenyWriteExecute=yes\n",
		"/usr/bin/python3"} {
		if !strings.Contains(unit, want) {
			t.Errorf("no %q in\n%s", want, unit)
		}
	}
	for _, not := range []string{"ExecStartPost", "\nRestart"} {
		if strings.Contains(unit, not) {
			t.Errorf("%q in\n%s", not, unit)
		}
	}
	unit, err = File(Program{Name: "x", Argv: []string{"/x"}, Kind: engine.VLLM, Model: "/srv/models/a",
		Env: map[string]string{"A": "b"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"serve", "/srv/models/a", "A=b", "MemoryDenyWriteExecute=yes\n", "ProcSubset=pid\n"} {
		if !strings.Contains(unit, want) {
			t.Errorf("no %q in\n%s", want, unit)
		}
	}
	if _, err := File(Program{Name: "x", Argv: []string{"/x"}, Kind: "y"}, nil); err == nil {
		t.Error("a kind that is not known is rendered")
	}
}
