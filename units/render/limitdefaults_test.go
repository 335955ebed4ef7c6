package render_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/render"
)

// TestLimitDefaults compares the documented defaults of [limits] with the unit of a pool that sets
// none: one that is a number is in the unit, the others are not, and after a limit was lifted from
// a running unit it has what a new one would have.
func TestLimitDefaults(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "pool-file.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "## `[limits]`")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\| [^|]+ \\| `?([^|`]+)`? \\|").FindAllStringSubmatch(table, -1)
	if !found || len(rows) < 7 {
		t.Fatalf("%d keys of [limits] in the page", len(rows))
	}
	unit, err := render.Render(input())
	if err != nil {
		t.Fatal(err)
	}
	lines, live := map[string]string{}, map[string]any{}
	for _, l := range unit.Lines {
		lines[l.Key] = l.Text
	}
	for _, p := range unit.LimitProperties() {
		live[p.Name] = p.Value
	}
	keys := map[string]string{"memory_max": "MemoryMax", "memory_high": "MemoryHigh", "cpu_quota": "CPUQuota", "cpus": "AllowedCPUs",
		"cpu_weight": "CPUWeight", "io_weight": "IOWeight", "tasks_max": "TasksMax",
		"memlock": "LimitMEMLOCK", "nofile": "LimitNOFILE", "nice": "Nice", "numa_policy": "NUMAPolicy", "numa_nodes": "NUMAMask"}
	for _, row := range rows {
		key, documented := row[1], strings.TrimSpace(row[2])
		if key == "state_max" {
			continue // the manager counts, and a quota is bounded by the file system: TestQuota
		}
		property, known := keys[key]
		if !known {
			t.Errorf("[limits] %s: which property of the unit is it?", key)
			continue
		}
		text, set := lines[property]
		number := regexp.MustCompile(`^[0-9]+$`).MatchString(documented)
		if set != number || set && text != documented {
			t.Errorf("%s: documented %q, the unit has %q", key, documented, text)
		}
		if value, running := live[property]; number && running && fmt.Sprint(value) != documented {
			t.Errorf("%s: documented %q, a running unit gets %v", key, documented, value)
		}
	}
}
