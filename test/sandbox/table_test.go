package sandbox

import (
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/relax"
)

// needing is a program that needs these relaxations.
func needing(names ...string) func([]string) (string, bool) {
	return func(allow []string) (string, bool) {
		for _, n := range names {
			if !slices.Contains(allow, n) {
				return "a\nneeds " + n + "\n", false
			}
		}
		return "", true
	}
}

// TestFind: a program that needs two relaxations is found to, and one that fails whatever is
// relaxed shows nothing.
func TestFind(t *testing.T) {
	names := []string{"a", "b", "c"}
	two := Find("two", names, needing("a", "c"))
	if two.Needs["a"] != Needed || two.Needs["b"] != NotNeeded || two.Needs["c"] != Needed || two.Strict ||
		!two.Minimal {
		t.Errorf("%+v", two)
	}
	if none := Find("none", names, needing()); !none.Strict || none.Needs["a"] != NotNeeded {
		t.Errorf("%+v", none)
	}
	broken := Find("broken", names, needing("x"))
	if broken.Needs["a"] != Unknown || broken.Minimal {
		t.Errorf("%+v", broken)
	}
	out := Print([]Row{two, broken}, names)
	for _, want := range []string{"| program | a | b | c | log", "| two | needed | - | needed | needs a |",
		"| broken | ? | ? | ? |"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestFile: the unit has the sandbox of the pool, and ends with the program.
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
}
