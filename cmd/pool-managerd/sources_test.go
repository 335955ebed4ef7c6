package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/hostconfig"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestChangedSources: a pool whose file is not the one that was read is not reloaded to what it
// was, as if that were what the file says.
func TestChangedSources(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(file string) error
		changed bool
	}{
		{"same", func(string) error { return nil }, false},
		{"read_by_someone", func(file string) error { _, err := os.ReadFile(file); return err }, false},
		{"written", func(file string) error { return os.WriteFile(file, []byte("b"), 0o644) }, true},
		{"replaced_with_its_former_time", func(file string) error {
			info, err := os.Stat(file)
			if err != nil {
				return err
			}
			next := file + ".new"
			if err := os.WriteFile(next, []byte("a"), 0o644); err != nil {
				return err
			}
			if err := os.Chtimes(next, info.ModTime(), info.ModTime()); err != nil {
				return err
			}
			return os.Rename(next, file)
		}, true},
		{"removed", os.Remove, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "a.toml")
			if err := os.WriteFile(file, []byte("a"), 0o644); err != nil {
				t.Fatal(err)
			}
			read := sourcesOf(hostconfig.Config{Pools: []pool.Pool{{ID: "a", Source: file}}})
			time.Sleep(10 * time.Millisecond) // a file's time is that of the kernel's last tick
			if err := c.change(file); err != nil {
				t.Fatal(err)
			}
			f := read.changed("a")
			if (f != nil) != c.changed {
				t.Errorf("%v", f)
			}
			if f != nil && (!strings.Contains(f.Message, file) || !strings.Contains(f.Hint, "systemctl reload")) {
				t.Errorf("%s; %s", f.Message, f.Hint)
			}
			if f := read.changed("preloaded"); f != nil {
				t.Errorf("of a pool without a file: %v", f)
			}
		})
	}
	t.Run("with_a_problem", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "b.toml")
		read := sourcesOf(hostconfig.Config{Problems: []hostconfig.Problem{{File: file, PoolID: "b"}}})
		if err := os.WriteFile(file, nil, 0o644); err != nil {
			t.Fatal(err)
		}
		if read.changed("b") == nil {
			t.Error("a corrected file is the one that was read")
		}
	})
}
