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

// served is a pool with one replica that serves on the devices.
func served(devices ...string) (*registry.Pool, *registry.Replica) {
	p := &registry.Pool{ID: "llama3-8b", Engine: "llamacpp", ModelID: "file:/srv/models/llama3.gguf",
		Replicas: []registry.Replica{{
			ID: "r0b", Name: "r0", Ready: true, Endpoint: "http://127.0.0.1:21001", EngineVersion: "b5000",
			DeviceMask: devices,
			ModelPath:  "/srv/models/llama3.gguf", Flags: []string{"-m", "/srv/models/llama3.gguf", "<&>"},
			Provisioning: "binary",
			PID:          42, Unit: "pool-engine@llama3.r0b.service", SlotsTotal: 4, SlotsFree: 3,
		}}}
	return p, &p.Replicas[0]
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

func encoded(t *testing.T, p *registry.Pool, r *registry.Replica) string {
	t.Helper()
	body, err := fileOf(p, r, nil).encode()
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestFile(t *testing.T) {
	t.Run("fields_of_the_contract", func(t *testing.T) {
		const want = `{
  "url": "http://127.0.0.1:21001",
  "pool_id": "llama3-8b",
  "replica_id": "r0",
  "engine": "llamacpp",
  "engine_version": "b5000",
  "model_id": "file:/srv/models/llama3.gguf",
  "model": {
    "id": "file:/srv/models/llama3.gguf",
    "path": "/srv/models/llama3.gguf"
  },
  "device_mask": "GPU-1,GPU-2",
  "devices": [
    "GPU-1",
    "GPU-2"
  ],
  "flags": [
    "-m",
    "/srv/models/llama3.gguf",
    "<&>"
  ],
  "provisioning_mode": "binary",
  "pid": 42,
  "unit": "pool-engine@llama3.r0b.service",
  "slots": 4,
  "slots_total": 4,
  "slots_free": 3
}
`
		p, r := served("GPU-1", "GPU-2")
		if have := encoded(t, p, r); have != want {
			t.Errorf("file:\n%s\nwant:\n%s", have, want)
		}
	})
	t.Run("what_is_not_known_is_null_and_a_list_is_a_list", func(t *testing.T) {
		p, r := served()
		*r = registry.Replica{ID: "r1", Ready: true, Endpoint: "http://10.0.0.1:80", Provisioning: "external"}
		have := encoded(t, p, r)
		for _, want := range []string{`"replica_id": "r1"`, `"engine_version": null`, `"path": null`, `"device_mask": null`, `"devices": []`,
			`"flags": []`, `"pid": null`, `"unit": null`, `"slots_free": 0`, `"engine": "llamacpp"`} {
			if !strings.Contains(have, want) {
				t.Errorf("no %s in\n%s", want, have)
			}
		}
	})
}

func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engines")
	old := syscall.Umask(0o077) // the daemon's own
	defer syscall.Umask(old)
	d := New(path)
	if err := d.Write("a.r0.json", []byte("{}\n")); err != nil {
		t.Fatal(err)
	}
	t.Run("everybody_may_read_it_whatever_the_umask", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(path, "a.r0.json"))
		if err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("mode %v, %v", info.Mode(), err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("directory: mode %v, %v", info.Mode(), err)
		}
	})
	t.Run("a_rewrite_leaves_nothing_beside_it", func(t *testing.T) {
		if err := d.Write("a.r0.json", []byte("{\"a\":1}\n")); err != nil {
			t.Fatal(err)
		}
		if got := names(t, path); !slices.Equal(got, []string{"a.r0.json"}) ||
			string(d.Read("a.r0.json")) != "{\"a\":1}\n" {
			t.Errorf("directory: %v, %s", got, d.Read("a.r0.json"))
		}
	})
	t.Run("removed_once_or_twice", func(t *testing.T) {
		for range 2 {
			if err := d.Remove("a.r0.json"); err != nil {
				t.Fatal(err)
			}
		}
		if got := names(t, path); len(got) != 0 || d.Read("a.r0.json") != nil {
			t.Errorf("directory: %v", got)
		}
	})
	t.Run("lists_its_own_and_what_was_interrupted", func(t *testing.T) {
		for _, name := range []string{"llama3.r0.json", "a.b.r0.json", ".gone.r0.json1234", "README", "nodot.json"} {
			if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		files, left, err := d.List()
		if err != nil || !slices.Equal(files, []string{"a.b.r0.json", "llama3.r0.json"}) ||
			!slices.Equal(left, []string{".gone.r0.json1234"}) {
			t.Errorf("%v, %v, %v", files, left, err)
		}
		if files, left, err := New(filepath.Join(path, "never", "made")).List(); err != nil || files != nil ||
			left != nil {
			t.Errorf("of a directory that is not there yet: %v, %v, %v", files, left, err)
		}
	})
}

func TestNamesStayInTheDirectory(t *testing.T) {
	for _, id := range []string{"", "..", "../x", "a/b", ".hidden", "a\x00b"} {
		if name, ok := fileName(id, "r0"); ok {
			t.Errorf("pool %q has the file %q", id, name)
		}
		if name, ok := fileName("p", id); ok {
			t.Errorf("replica %q has the file %q", id, name)
		}
	}
}

// TestReadersSeeWholeFiles reads while the file is written again and again.
func TestReadersSeeWholeFiles(t *testing.T) {
	d := New(t.TempDir())
	body := func(n int) []byte { return []byte("{" + strings.Repeat(" ", n) + "}\n") }
	if err := d.Write("a.r0.json", body(0)); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		for i := range 200 {
			if err := d.Write("a.r0.json", body(i*40)); err != nil {
				t.Error(err)
			}
		}
	})
	for range 400 {
		if have := d.Read("a.r0.json"); !strings.HasSuffix(string(have), "}\n") {
			t.Fatalf("%q", have)
		}
	}
	writer.Wait()
}
