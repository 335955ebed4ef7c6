package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestFind: every target of the tree is found, and nothing in testdata.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"a/a_test.go":          "package a\n\nfunc FuzzOne(f *testing.F) {}\n\nfunc TestFuzz(t *testing.T) {}\n",
		"a/b/b_test.go":        "package b\n\nfunc FuzzTwo(f *testing.F) {}\nfunc FuzzThree(f *testing.F) {}\n",
		"a/b.go":               "package a\n\nfunc FuzzNot() {}\n",
		"a/testdata/c_test.go": "package c\n\nfunc FuzzNot(f *testing.F) {}\n",
		".git/d_test.go":       "package d\n\nfunc FuzzNot(f *testing.F) {}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(dir)
	found, err := find(".")
	if got := fmt.Sprint(found); err != nil || got != "[a.FuzzOne a/b.FuzzThree a/b.FuzzTwo]" {
		t.Errorf("%s, %v", got, err)
	}
}

// TestInputs: the count is the last that go test printed.
func TestInputs(t *testing.T) {
	for out, want := range map[string]int{
		"fuzz: elapsed: 3s, execs: 1200 (400/sec), new interesting: 2 (total: 9)\nfuzz: elapsed: 6s, execs: 2500 (433/sec)\nPASS\n": 2500,
		"--- FAIL: FuzzX\n": 0,
		"execs: 7\n":        0,
	} {
		if got := inputs(out); got != want {
			t.Errorf("%d of %q, want %d", got, out, want)
		}
	}
}

// TestRecord: what was tried is added to the totals; each target of the tree has a row, and one
// that is gone has none.
func TestRecord(t *testing.T) {
	page := filepath.Join(t.TempDir(), "fuzz.md")
	a, b, c := target{"a", "FuzzOne", 7, 1}, target{"a", "FuzzTwo", 0, 5}, target{"b/c", "FuzzThree", 1, 0}
	for _, step := range []struct {
		all   []target
		tried target
	}{{[]target{a, b, c}, a}, {[]target{a, b, c}, c}, {[]target{a, b, c}, a}, {[]target{a, b}, b}} {
		if err := record(page, step.all, step.tried); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(page)
	if want := recordHead + "| a.FuzzOne | 14 | 2 |\n| a.FuzzTwo | 0 | 5 |\n"; err != nil || string(text) != want {
		t.Errorf("%s, %v, want %s", text, err, want)
	}
	for _, row := range []string{"99999999999999999999 | 0", "0 | 99999999999999999999"} {
		if err := os.WriteFile(page, []byte("| a.FuzzOne | "+row+" |\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := record(page, []target{a}, a); err == nil {
			t.Error("a number that cannot be read was replaced")
		}
	}
}

// TestMutated: the counts of each input of the corpus are added.
func TestMutated(t *testing.T) {
	out := "=== RUN\nmutate: inputs: 500\nmutate: inputs: 12\nPASS mutate: inputs: 7\nmutate: inputs: many\n"
	if n := mutated(out); n != 512 {
		t.Errorf("%d, want 512", n)
	}
}

// TestSpread: what is kept is of all sizes.
func TestSpread(t *testing.T) {
	list := []string{"1", "2", "3", "4", "5", "6"}
	for n, want := range map[int]string{0: "[]", 3: "[1 3 5]", 6: "[1 2 3 4 5 6]", 9: "[1 2 3 4 5 6]"} {
		if got := fmt.Sprint(spread(list, n)); got != want {
			t.Errorf("%d of %v: %s, want %s", n, list, got, want)
		}
	}
}

// TestEndOfTime: the end of the time is no failure, and what a target fails with is.
func TestEndOfTime(t *testing.T) {
	for out, want := range map[string]bool{
		"fuzz: elapsed: 45s, execs: 450472 (0/sec)\n--- FAIL: FuzzPressure (45.09s)\n    context deadline exceeded\nFAIL\n" +
			"exit status 1\nFAIL\tcgroups\t45.168s\n": true,
		"--- FAIL: FuzzOne (1.20s)\n    --- FAIL: FuzzOne (0.00s)\n        one_test.go:9: context deadline exceeded\n    \n" +
			"    Failing input written to testdata/fuzz/FuzzOne/ab\nFAIL\n": false,
		"--- FAIL: FuzzOne (1.20s)\n    fuzzing process hung or terminated unexpectedly\nFAIL\n": false,
	} {
		if got := endOfTime.MatchString(out); got != want {
			t.Errorf("%t for\n%s", got, out)
		}
	}
}
