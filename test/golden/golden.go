// Package golden compares the output of programs with golden files, for tests of any package. A
// package that uses it has its own flag -update, which it passes on.
//
// It owns how such files are read, compared and rewritten. It must not know what is in them.
package golden

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// divider separates input and expected output in the file of a case.
const divider = "---\n"

// File fails the test if got differs from the file; with update the file is written first.
func File(t testing.TB, path, got string, update bool) {
	t.Helper()
	if update {
		write(t, path, got)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v; run the test with -update to write it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs from the output; -update rewrites it (-want +got):\n%s", path, diff)
	}
}

// Cases runs a subtest for each file that matches: what stands before the last three dashes at the
// end of a line goes into convert, and what comes out must be what stands behind it. Fewer files
// than least are a mistake in the pattern.
func Cases(t *testing.T, pattern string, least int, update bool, convert func(t *testing.T, input string) string) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) < least {
		t.Fatalf("%d files match %s, want %d at least: %v", len(paths), pattern, least, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)), func(t *testing.T) {
			content, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			input, _ := Split(string(content))
			File(t, path, input+divider+convert(t, input), update)
		})
	}
}

// Split cuts at the last divider: what goes in may hold dashes of its own, and need not end with a
// line break. A file without a divider is all input.
func Split(content string) (input, want string) {
	at := strings.LastIndex(content, divider)
	if at < 0 {
		return content, ""
	}
	return content[:at], content[at+len(divider):]
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
