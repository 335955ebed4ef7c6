package tree

import (
	"regexp"
	"strings"
	"testing"
)

var (
	keyRow  = regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
	keyItem = regexp.MustCompile(`(?m)^(?:\.It )?\.?Ic ([^"\n]*)$|^\.It Ic (.*)$`)
	flag    = regexp.MustCompile(`(?m)^\s+(?:-[a-z], )?--?([a-z][a-z-]+)\b`)
)

// TestManKeys: the manual pages explain each key that the reference has, which is made from the code, and no other.
func TestManKeys(t *testing.T) {
	for page, reference := range map[string]string{
		"docs/man/pool-file.5":          "docs/reference/pool-file.md",
		"docs/man/pool-managerd.toml.5": "docs/reference/config-file.md",
	} {
		named := make(map[string]bool)
		for _, m := range keyItem.FindAllStringSubmatch(read(t, page), -1) {
			for _, word := range strings.Fields(m[1] + " " + m[2]) {
				named[strings.Trim(word, ",")] = true
			}
		}
		explained := make(map[string]bool)
		keys := keyRow.FindAllStringSubmatch(read(t, reference), -1)
		if len(keys) == 0 {
			t.Fatalf("%s has no table of keys", reference)
		}
		for _, m := range keys {
			if !named[m[1]] {
				t.Errorf("%s does not explain %s", page, m[1])
			}
			explained[m[1]] = true
		}
		// Tables whose keys are free have no row; other pages' keys may be referred to.
		known := map[string]bool{"env": true, "port": true, "devices": true, "model": true, "port_range": true, "require_gpu": true}
		for key := range named {
			if !explained[key] && !known[key] && regexp.MustCompile("^[a-z_]+$").MatchString(key) {
				t.Errorf("%s explains %s, which is no key", page, key)
			}
		}
	}
}

// testManFlags: each flag that the program knows is explained in its manual page.
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
