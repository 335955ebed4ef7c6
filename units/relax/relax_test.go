package relax

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPage: docs/sandbox.md has the table, row by row, and pool-file(5) each name.
func TestPage(t *testing.T) {
	page, manual := read(t, "sandbox.md"), read(t, "man", "pool-file.5")
	for _, r := range Table() {
		lines := make([]string, len(r.Lines))
		for i, line := range r.Lines {
			lines[i] = "`" + line + "`"
		}
		row := fmt.Sprintf("| `%s` | %s | %s | %s |\n", r.Name, strings.Join(lines, ", "), r.Cost, r.Why)
		if !strings.Contains(page, row) {
			t.Errorf("docs/sandbox.md does not have the row\n%s", row)
		}
		if !strings.Contains(manual, `\(dq`+r.Name+`\(dq`) {
			t.Errorf("pool-file(5) does not name %s", r.Name)
		}
	}
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{"..", "..", "docs"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestTable: each row is complete and its name is found.
func TestTable(t *testing.T) {
	for _, name := range Names() {
		r, ok := Find(name)
		if !ok || r.Name != name || len(r.Lines) == 0 || r.Why == "" || r.Cost == "" {
			t.Errorf("%s: %+v, %t", name, r, ok)
		}
	}
	if r, ok := Find("everything"); ok {
		t.Errorf("a name that is not in the table is found: %+v", r)
	}
}
