package provision

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestIDsOf(t *testing.T) {
	for name, c := range map[string]struct {
		file string
		want uint64
	}{
		"nothing":                       {"", 0},
		"another_users":                 {"ann:100000:65536\n", 0},
		"one_range":                     {"ann:100000:65536\ncontainers:2147483647:2147483648\n", 2147483648},
		"two_ranges":                    {"containers:1:5\ncontainers:100:7\n", 12},
		"a_user_whose_name_begins_so":   {"containers2:1:5\n", 0},
		"a_line_that_is_no_range":       {"containers:1\ncontainers:1:x\n# containers:1:5\n", 0},
		"a_last_line_without_a_newline": {"containers:1:5", 5},
	} {
		t.Run(name, func(t *testing.T) {
			if got := idsOf(strings.NewReader(c.file), rangesUser); got != c.want {
				t.Errorf("%d ids, want %d", got, c.want)
			}
		})
	}
}

// TestPodman names what the host lacks, in the order in which it is needed.
func TestPodman(t *testing.T) {
	etc, bin := t.TempDir(), t.TempDir()
	of := pool.Pool{Provisioning: pool.Provisioning{Mode: pool.ModeContainer, Runtime: pool.RuntimePodman}}
	pr := &Preparer{Etc: etc, find: func(name string) string {
		if path := filepath.Join(bin, name); exists(path) {
			return path
		}
		return ""
	}}
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	lacks := func(want string) {
		t.Helper()
		if path, f := pr.podman(of); f == nil || path != "" || !strings.Contains(f.Message+f.Hint, want) {
			t.Errorf("%q, %+v; want %q", path, f, want)
		}
	}
	lacks("podman is not installed")
	write(filepath.Join(bin, "podman"), "")
	lacks("crun is not installed")
	write(filepath.Join(bin, "crun"), "")
	lacks("subuid")
	write(filepath.Join(etc, "subuid"), "containers:2147483647:65536\n")
	lacks("subgid")
	write(filepath.Join(etc, "subgid"), "containers:2147483647:1023\n")
	lacks("usermod --add-subuids")
	write(filepath.Join(etc, "subgid"), "containers:2147483647:1024\n")
	if path, f := pr.podman(of); f != nil || path != filepath.Join(bin, "podman") {
		t.Errorf("%q, %v", path, f)
	}
	of.Provisioning.Runtime = pool.RuntimeSystemd
	if path, f := (&Preparer{}).podman(of); f != nil || path != "" {
		t.Errorf("without podman: %q, %v", path, f)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
