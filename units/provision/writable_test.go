package provision

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestWritable: what an engine could not write to is found before its start.
func TestWritable(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, mode := range map[string]os.FileMode{"open": 0o777, "own": 0o755, "shut": 0o776} {
		if err := errors.Join(os.Mkdir(at(name), 0o700), os.Chmod(at(name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	for name, mode := range map[string]os.FileMode{"log": 0o666, "read": 0o644} {
		if err := errors.Join(os.WriteFile(at(name), nil, 0o600), os.Chmod(at(name), mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(at("open"), at("link")); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"open": "", "log": "",
		"own": "has mode 0755", "shut": "has mode 0776", "read": "has mode 0644",
		"absent": "does not exist", "link": "by a symbolic link",
	} {
		t.Run(name, func(t *testing.T) {
			err := writable([]string{at("open"), at(name)})
			var f *registry.Failure
			switch {
			case want == "" && err == nil:
			case !errors.As(err, &f) || f.Code != registry.CodeProvisionFailed || !strings.Contains(f.Message, want) ||
				f.Hint == "" || want == "":
				t.Errorf("writable = %v, want %q", err, want)
			}
		})
	}
}
