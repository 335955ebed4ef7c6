package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/test/reference"
)

const pageHead = `<!-- Written by go test ./units/config -update; do not edit. -->
# Pool files

One TOML file for each pool in ` + "`/etc/pool-managerd/pools.d/`" + `. Names that end in ` + "`.toml`" +
	` and do not begin with a dot are
read. After an edit: ` + "`poolctl check && systemctl reload pool-managerd`" + `.

    engine = "llamacpp"
    model = "file:/srv/models/llama3-8b-q4.gguf"
    devices = [0]
    slots = 4
    ctx = 8192

    [limits]
    memory_max = "16G"

- Everything that is wrong is reported at once, each with file, line, column and what is allowed. An unknown key is an error. A file
  with any error yields no pool; the former version of its pool goes on, and other pools are not touched.
- Two files with one id, or with overlapping ports, are both wrong: neither is loaded, whatever their order.
- Durations are strings with units (` + "`\"1.5s\"`, `\"5m\"`, `\"1h30m\"`" +
	`). Sizes are strings with a unit of base 1024 (` + "`\"24G\"`, `\"512MiB\"`" + `) or
  numbers of bytes.
- What does not tell one pool from another (` + "`engine`, `ctx`, `slots`, `args`" +
	` and every table) may also stand under ` + "`[defaults]`" + ` in
  [config.toml](config-file.md), for all pools.
`

// TestReference holds the page to the schema; -update writes it again.
func TestReference(t *testing.T) {
	golden.File(t, filepath.Join("..", "..", "docs", "reference", "pool-file.md"), pageHead+reference.Page(poolKeys()),
		*update)
}

// TestDefaultsAsDocumented reads each documented default that is a value as if a file gave it: it
// must change nothing.
func TestDefaultsAsDocumented(t *testing.T) {
	const least = "engine = \"llamacpp\"\nmodel = \"file:/srv/a.gguf\"\n"
	want, problems := ParsePool("p.toml", []byte(least), DefaultHost())
	if want == nil {
		t.Fatal(problems)
	}
	tried := 0
	for _, k := range poolKeys() {
		if !strings.ContainsRune(`"0123456789[`, rune((k.Default + " ")[0])) {
			continue
		}
		if k.Path == "limits.tasks_max" || k.Path == "limits.nofile" {
			continue // the unit has it: units/render, TestLimitDefaults
		}
		tried++
		p, problems := ParsePool("p.toml", []byte(least+k.Path+" = "+k.Default+"\n"), DefaultHost())
		if p == nil {
			t.Errorf("%s = %s: %v", k.Path, k.Default, problems)
			continue
		}
		for _, d := range differences(*p, *want) {
			if d != "Args: []string{}\n" && d != "Sandbox.Allow: []string{}\n" &&
				d != "Writable: []string{}\n" && d != "Files: []string{}\n" { // an empty list instead of none
				t.Errorf("the default of %s is not %s: %s", k.Path, k.Default, d)
			}
		}
	}
	if tried < 20 {
		t.Errorf("only %d defaults were tried", tried)
	}
}

// TestPackagedExample reads the example that the package installs.
func TestPackagedExample(t *testing.T) {
	path := filepath.Join("..", "..", "packaging", "etc", "example.toml.disabled")
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if p, problems := ParsePool("example.toml", data, DefaultHost()); p == nil {
		t.Error(problems)
	}
}

// TestManualPage holds pool-file(5) to the schema: each key is in it.
func TestManualPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "man", "pool-file.5"))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(page))
	for _, k := range poolKeys() {
		path := strings.Split(strings.TrimSuffix(k.Path, ".*"), ".")
		for _, part := range path {
			if !contains(words, part) {
				t.Errorf("%s is not in the page", k.Path)
			}
		}
	}
}

// TestManualDefaults holds the defaults in pool-file(5) to those of the keys.
func TestManualDefaults(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "man", "pool-file.5"))
	if err != nil {
		t.Fatal(err)
	}
	for _, wrong := range reference.Differences(string(page), poolKeys()) {
		t.Error(wrong)
	}
}

func contains(words []string, part string) bool {
	for _, w := range words {
		if w == part || w == "["+part+"]" {
			return true
		}
	}
	return false
}
