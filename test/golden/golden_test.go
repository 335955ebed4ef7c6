package golden

import (
	"os"
	"path/filepath"
	"testing"
)

// recorder is a test that does not fail when its subject does.
type recorder struct {
	testing.TB
	failed bool
}

func (r *recorder) Errorf(string, ...any) { r.failed = true }

func TestFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.golden")
	check := func(got string, update bool) bool {
		r := &recorder{TB: t}
		File(r, path, got, update)
		return !r.failed
	}
	if !check("one\n", true) || !check("one\n", false) {
		t.Error("what was written is not what is read")
	}
	if check("two\n", false) {
		t.Error("a difference passes")
	}
	if !check("two\n", true) || check("one\n", false) {
		t.Error("an update does not replace what was there")
	}
}

func TestSplit(t *testing.T) {
	for _, c := range []struct{ name, content, input, want string }{
		{"in_and_out", "a\n---\nb\n", "a\n", "b\n"},
		{"nothing_goes_in", "---\nb\n", "", "b\n"},
		{"nothing_comes_out", "a\n---\n", "a\n", ""},
		{"dashes_go_in", "a\n---\nb\n---\nc\n", "a\n---\nb\n", "c\n"},
		{"no_line_break_before_the_dashes", "a---\nb\n", "a", "b\n"},
		{"not_yet_divided", "a\n", "a\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if input, want := Split(c.content); input != c.input || want != c.want {
				t.Errorf("split into %q and %q, want %q and %q", input, want, c.input, c.want)
			}
		})
	}
}

func TestCases(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "case.txt")
	if err := os.WriteFile(path, []byte("in"), 0o644); err != nil {
		t.Fatal(err)
	}
	ran := 0
	convert := func(_ *testing.T, input string) string { ran++; return input + " and out\n" }
	Cases(t, filepath.Join(dir, "*.txt"), 1, true, convert)
	if body, err := os.ReadFile(path); err != nil || string(body) != "in---\nin and out\n" || ran != 1 {
		t.Errorf("%q after %d runs, %v", body, ran, err)
	}
}
