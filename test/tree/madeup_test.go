package tree

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAMadeUpEngine adds an engine as docs/contributing.md says, one file and one word, without
// writing to the tree, and looks at what the rest of the program makes of it: its pool file, its
// unit with probe, sandbox and shutdown, its memory, its log lines and its metrics.
func TestAMadeUpEngine(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds the packages that know engines")
	}
	source := func(name string) string {
		path, err := filepath.Abs(filepath.Join("testdata", "madeup", name))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	inTree := func(name string) string {
		path, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			t.Fatal(err)
		}
		return path
	}
	const last = "command{}}"
	list := read(t, enginesDir+"/engine.go")
	if strings.Count(list, last) != 1 {
		t.Fatalf("the list of adapters in %s/engine.go does not end with %s", enginesDir, last)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "engine.go")
	if err := os.WriteFile(changed, []byte(strings.Replace(list, last, "command{}, madeUp{}}", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {
		inTree(enginesDir + "/engine.go"): changed,
		inTree(enginesDir + "/madeup.go"): source("adapter.go"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	test := exec.Command("go", "test", "-overlay", file, "./test/tree/testdata/madeup/proof")
	test.Dir = root
	test.Env = append(os.Environ(), "GOFLAGS=", "GORACE=")
	if out, err := test.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
