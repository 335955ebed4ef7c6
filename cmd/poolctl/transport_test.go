package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExportAndImport: a model of one host's cache is one of another's, by a file or a pipe.
func TestExportAndImport(t *testing.T) {
	dir := t.TempDir()
	config := func(name string) string {
		file := filepath.Join(dir, name+".toml")
		text := "require_gpu = false\nprovisioning.cache_dir = \"" + filepath.Join(dir, name) + "\"\n"
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return file
	}
	here, there := config("here"), config("there")
	snapshot := filepath.Join(dir, "here/models--acme--tiny/snapshots/c0ffee")
	if err := errors.Join(os.MkdirAll(snapshot, 0o755), os.MkdirAll(snapshot+"/../../refs", 0o755),
		os.WriteFile(snapshot+"/a.gguf", []byte("GGUF"), 0o644),
		os.WriteFile(snapshot+"/../../refs/main", []byte("c0ffee"), 0o644)); err != nil {
		t.Fatal(err)
	}
	const model = "hf:acme/tiny/a.gguf"
	archive := filepath.Join(dir, "a.tar")
	for _, c := range []struct {
		name, args string
		code       int
		says       string
	}{
		{"export", "export " + model + " " + archive + " --config " + here, 0, "Exported " + model + ", 4 B in 1 file."},
		{"export_over_a_file", "export " + model + " " + archive + " --config " + here, 1, "exists already"},
		{"export_what_is_not_there", "export hf:acme/other/a.gguf " + archive + "2 --config " + here, 1, "is not in the cache"},
		{"export_no_reference", "export tiny " + archive + "2 --config " + here, 2, "has no scheme"},
		{"export_a_file", "export file:/a " + archive + "2 --config " + here, 2, "copy it"},
		{"import_no_archive", "import " + here + " --config " + there, 1, "no archive of poolctl models export"},
		{"import_no_file", "import " + archive + "2 --config " + there, 1, "no such file"},
		{"import", "import " + archive + " --config " + there, 0, filepath.Join(dir, "there/models--acme--tiny/snapshots/c0ffee/a.gguf")},
		{"import_again", "import " + archive + " --config " + there, 0, "Imported " + model + ", 0 B"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := poolctl(t.Context(), append([]string{"models"}, strings.Fields(c.args)...)...)
			if got.code != c.code || !strings.Contains(got.out+got.errOut, c.says) {
				t.Errorf("exit status %d\n%s%s", got.code, got.out, got.errOut)
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(dir, ".a.tar*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q (%v)", left, err)
	}
	// By a pipe: the archive alone is on standard output.
	got := poolctl(t.Context(), "models", "export", model, "-", "--config", here)
	piped := config("piped")
	var out, errOut syncBuffer
	a := &app{in: strings.NewReader(got.out), out: &out, err: &errOut}
	if code := run(t.Context(), a, []string{"models", "import", "-", "--config", piped}); code != 0 {
		t.Errorf("exit status %d\n%s", code, errOut.String())
	}
}
