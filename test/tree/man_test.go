package tree

import (
	"regexp"
	"strings"
	"testing"
)

var flag = regexp.MustCompile(`(?m)^\s+(?:-[a-z], )?--?([a-z][a-z-]+)\b`)

// testManFlags: each flag that the program knows is explained in its manual page. The keys of files
// are tested by the packages that read them.
func testManFlags(t *testing.T, page, help string) {
	flags := flag.FindAllStringSubmatch(help, -1)
	if len(flags) == 0 {
		t.Fatalf("no flag in:\n%s", help)
	}
	text := read(t, page)
	for _, m := range flags {
		if !strings.Contains(text, "Fl Fl "+m[1]) {
			t.Errorf("%s does not explain --%s", page, m[1])
		}
	}
}
