package cgroups

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func idOf(t *testing.T, dir string) uint64 {
	t.Helper()
	var st syscall.Stat_t
	if err := syscall.Stat(dir, &st); err != nil {
		t.Fatal(err)
	}
	return st.Ino
}

func TestMembers(t *testing.T) {
	root := t.TempDir()
	made := func(dir string) uint64 {
		t.Helper()
		full := filepath.Join(root, dir)
		if err := os.MkdirAll(full, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(full, "cgroup.procs"), nil, 0o644); err != nil {
			t.Fatal(err)
		}
		return idOf(t, full)
	}
	m := NewMembers(root, "/pool.slice/pool-engines.slice", "/pool.slice/pool-fetch.slice")
	check := func(name string, id uint64, want bool) {
		t.Helper()
		for range 2 { // the second time from memory
			if got, err := m.Has(id); got != want || err != nil {
				t.Errorf("%s: %t %v, want %t", name, got, err, want)
			}
		}
	}
	outside := made("system.slice/x.service")
	check("before_any_engine_runs", outside, false)
	check("the_slice", made("pool.slice/pool-engines.slice"), true)
	check("an_engine", made("pool.slice/pool-engines.slice/pool-engine@a.r0.service"), true)
	check("what_an_engine_made", made("pool.slice/pool-engines.slice/pool-engine@a.r0.service/a/b"), true)
	check("of_another_slice", made("pool.slice/pool-fetch.slice/pool-fetch-1.service"), true)
	check("hybrid", made("unified/pool.slice/pool-engines.slice/pool-engine@b.r0.service"), true)
	check("beside_the_slice", made("pool.slice/other.service"), false)
	check("a_file", idOf(t, filepath.Join(root, "pool.slice/pool-engines.slice/cgroup.procs")), false)
	check("an_id_that_does_not_exist", 1<<62, false)
	check("outside", outside, false)

	t.Run("memory_is_bounded", func(t *testing.T) {
		for id := range uint64(knownLimit + 10) {
			if _, err := m.Has(1<<62 + id); err != nil {
				t.Fatal(err)
			}
		}
		if len(m.known) > knownLimit {
			t.Errorf("%d ids are kept", len(m.known))
		}
	})
	t.Run("a_tree_that_cannot_be_read_is_an_error_and_not_kept", func(t *testing.T) {
		if os.Getuid() == 0 {
			m = NewMembers(filepath.Join(root, "system.slice/x.service/cgroup.procs"), "/a") // not a directory
		} else if err := os.Chmod(filepath.Join(root, "pool.slice/pool-engines.slice"), 0); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Has(1 << 61); err == nil {
			t.Error("no error")
		}
		if _, kept := m.known[1<<61]; kept {
			t.Error("the answer is kept")
		}
		_ = os.Chmod(filepath.Join(root, "pool.slice/pool-engines.slice"), 0o755)
	})
}
