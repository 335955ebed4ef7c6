package handoff

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

var llama = registry.Pool{ID: "llama3-8b", Engine: "llamacpp", ModelID: "file:/srv/models/llama3.gguf"}

func ready(id string) registry.Replica {
	return registry.Replica{ID: id, Ready: true, Endpoint: "http://127.0.0.1:21000", EngineVersion: "b5000",
		DeviceMask: []string{"GPU-1"}, SlotsTotal: 4, SlotsFree: 4}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engines")
	old := syscall.Umask(0o077) // the daemon's own
	defer syscall.Umask(old)
	d := New(path)
	t.Run("fields_of_the_contract", func(t *testing.T) {
		if err := d.Write(llama, ready("r0")); err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(filepath.Join(path, "llama3-8b.r0.json"))
		if err != nil {
			t.Fatal(err)
		}
		want := `{
  "url": "http://127.0.0.1:21000",
  "pool_id": "llama3-8b",
  "replica_id": "r0",
  "engine": "llamacpp",
  "engine_version": "b5000",
  "model_id": "file:/srv/models/llama3.gguf",
  "device_mask": [
    "GPU-1"
  ],
  "slots_total": 4,
  "slots_free": 4
}
`
		if string(have) != want {
			t.Errorf("file:\n%s\nwant:\n%s", have, want)
		}
	})
	t.Run("everybody_may_read_it_whatever_the_umask", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(path, "llama3-8b.r0.json"))
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("directory: mode %v, %v", info.Mode(), err)
		}
	})
	t.Run("no_devices_is_an_empty_list", func(t *testing.T) {
		cpu := ready("r1")
		cpu.DeviceMask = nil
		if err := d.Write(llama, cpu); err != nil {
			t.Fatal(err)
		}
		body, _ := os.ReadFile(filepath.Join(path, "llama3-8b.r1.json"))
		if !strings.Contains(string(body), `"device_mask": []`) {
			t.Errorf("file:\n%s", body)
		}
	})
	t.Run("a_rewrite_leaves_nothing_beside_it", func(t *testing.T) {
		if err := d.Write(llama, ready("r0")); err != nil {
			t.Fatal(err)
		}
		if got := names(t, path); !slices.Equal(got, []string{"llama3-8b.r0.json", "llama3-8b.r1.json"}) {
			t.Errorf("directory: %v", got)
		}
	})
}

func TestNamesStayInTheDirectory(t *testing.T) {
	d := New(t.TempDir())
	for _, id := range []string{"", "..", "../x", "a/b", ".hidden", "a\x00b"} {
		if err := d.Write(registry.Pool{ID: id}, ready("r0")); err == nil {
			t.Errorf("a file was written for the pool id %q", id)
		}
		if err := d.Remove("p", id); err == nil {
			t.Errorf("a file was removed for the replica id %q", id)
		}
	}
}

func TestRemove(t *testing.T) {
	path := t.TempDir()
	d := New(path)
	if err := d.Write(llama, ready("r0")); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is gone already
		if err := d.Remove("llama3-8b", "r0"); err != nil {
			t.Fatal(err)
		}
	}
	if got := names(t, path); len(got) != 0 {
		t.Errorf("directory: %v", got)
	}
}

func TestRemoveStale(t *testing.T) {
	path := t.TempDir()
	for _, name := range []string{
		"llama3.r0.json", "llama3.r1.json", "a.b.r0.json", "gone.r0.json", ".gone.r0.json1234", "README", "nodot.json",
	} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(pool, replica string) bool {
		return pool == "llama3" && replica == "r0" || pool == "a.b" && replica == "r0"
	}
	if err := New(path).RemoveStale(keep); err != nil {
		t.Fatal(err)
	}
	if got, want := names(t, path), []string{"README", "a.b.r0.json", "llama3.r0.json", "nodot.json"}; !slices.Equal(got, want) {
		t.Errorf("left: %v, want %v", got, want)
	}
	if err := New(filepath.Join(path, "never", "made")).RemoveStale(keep); err != nil {
		t.Errorf("a directory that is not there yet: %v", err)
	}
}

// TestReadersSeeWholeFiles reads while the file is written again and again.
func TestReadersSeeWholeFiles(t *testing.T) {
	path := t.TempDir()
	d := New(path)
	file := filepath.Join(path, "llama3-8b.r0.json")
	if err := d.Write(llama, ready("r0")); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 200 {
			r := ready("r0")
			r.DeviceMask = []string{strings.Repeat("x", i*40)}
			if err := d.Write(llama, r); err != nil {
				t.Error(err)
			}
		}
	})
	for range 400 {
		body, err := os.ReadFile(file)
		if err != nil || !strings.HasSuffix(string(body), "}\n") {
			t.Fatalf("%v: %q", err, body)
		}
	}
	writer.Wait()
}
