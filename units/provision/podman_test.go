package provision

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
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
	said := said{out: "podman version 5.4.2\n"}
	pr := &Preparer{Etc: etc, Capture: &said, Log: slog.New(slog.DiscardHandler), find: func(name string) string {
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
		path, err := pr.podman(t.Context(), of)
		f, failed := errors.AsType[*registry.Failure](err)
		if !failed || path != "" || !strings.Contains(f.Message+f.Hint, want) {
			t.Errorf("%q, %v; want %q", path, err, want)
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
	for version, refused := range map[string]bool{"podman version 4.3.1\n": true, "podman version 5.3.9": true,
		"podman version 5.4.0": false, "podman version 5.8.1\n": false, "podman version 10.0.0-dev": false,
		"": false, "podman version five": false} {
		said.out = version
		if path, err := pr.podman(t.Context(), of); refused {
			lacks("5.4 or newer")
		} else if err != nil || path != filepath.Join(bin, "podman") {
			t.Errorf("%q: %q, %v", version, path, err)
		}
	}
	said.err = context.Canceled
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pr.podman(gone, of); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	of.Provisioning.Runtime = pool.RuntimeSystemd
	if path, err := (&Preparer{}).podman(t.Context(), of); err != nil || path != "" {
		t.Errorf("without podman: %q, %v", path, err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
