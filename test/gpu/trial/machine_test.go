//go:build machine

package trial_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/gpu/trial"
)

// TestBundle: what make gpu-bundle packs runs from its beginning to its end where there is no GPU,
// with the fake driver, and finds nothing to complain of.
func TestBundle(t *testing.T) {
	deb := os.Getenv("POOL_MANAGERD_DEB")
	if deb == "" {
		t.Fatal("POOL_MANAGERD_DEB is not set: run make integration, which builds the package")
	}
	const root = "../../.."
	dir := t.TempDir()
	stage, bundle, out := filepath.Join(dir, "stage"), filepath.Join(dir, "bundle"), filepath.Join(dir, "out")
	run(t, root, "dpkg-deb", "-x", deb, stage)
	run(t, root, "go", "run", "./test/cmd/gpubundle", "--stage", stage, "--out", bundle, "--fake")
	said := run(t, dir, filepath.Join(bundle, "run"), "--out", out, "--limit", "240s")
	report, err := trial.Read(filepath.Join(out, "gpu.json"))
	if err != nil {
		t.Fatal(err)
	}
	absent := map[string]bool{"CUDA C++": true, "llama-server with CUDA": true} // nothing stands in for them
	want := map[string]int{                                                     // rows at least
		"CUDA C++": 0, "llama-server with CUDA": 0, "Proof of the GPU": 3, "pool-gpu and nvidia-smi, on the host": 40, "Memory, on the host": 4,
		"A systemd in a container":        3,
		"pool-gpu as the package runs it": 42, "A whole pool": 6, "Masks and device fences": 6,
		"Two engines on one GPU, and out of memory": 5, "The sandbox of an engine": 4,
	}
	for _, table := range report.Tables {
		if len(table.Rows) < want[table.Title] || table.NotRun != "" && !absent[table.Title] {
			t.Errorf("%s has %d rows; not run: %s", table.Title, len(table.Rows), table.NotRun)
		}
		delete(want, table.Title)
	}
	if len(want) > 0 {
		t.Errorf("no step %v", want)
	}
	for _, fault := range report.Faults() {
		t.Error(fault)
	}
	if t.Failed() {
		t.Logf("%s", said)
		journal, err := os.ReadFile(filepath.Join(out, "journal.log"))
		t.Logf("%s (%v)", journal, err)
	}
	if mounts, err := os.ReadFile("/proc/self/mounts"); err != nil || strings.Contains(string(mounts), "gputrial") {
		t.Errorf("a mount is left behind (%v)", err)
	}
}

// run runs a program and returns its output. That it reports faults is no failure of its own here.
func run(t *testing.T, dir, name string, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil && !bytes.Contains(out, []byte("fault:")) {
		t.Fatalf("%s: %v\n%s", strings.Join(cmd.Args, " "), err, out)
	}
	return out
}
