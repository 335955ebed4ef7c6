package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// shelved is a host with four models in its cache: one that a pool file names, one that a pool
// serves instead, and two that no pool names, of which "old" was not used for longer.
func shelved(t *testing.T) (h *host, cache string, ctl func(args ...string) result) {
	t.Helper()
	h = newHost(t)
	root := t.TempDir()
	write := func(path, text string, age time.Duration) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		when := time.Now().Add(-age)
		if err := os.Chtimes(path, when, when); err != nil {
			t.Fatal(err)
		}
	}
	cache = filepath.Join(root, "/var/cache/pool-managerd/models")
	for name, age := range map[string]time.Duration{"named": 9, "served": 8, "old": 5, "new": 1} {
		text := strings.Repeat(name[:1], 1000)
		sum := sha256.Sum256([]byte(text))
		write(filepath.Join(cache, "models--acme--"+name, "blobs", hex.EncodeToString(sum[:])), text, age*24*time.Hour)
	}
	config, pools := filepath.Join(root, "config.toml"), filepath.Join(root, "pools.d")
	write(config, "require_gpu = false\n", 0)
	write(filepath.Join(pools, "a.toml"), "engine = \"llamacpp\"\nmodel = \"hf:acme/named/a.gguf\"\ndevices = []\n", 0)
	h.reg.Put(registry.Pool{ID: "b", ModelID: "hf:acme/served:Q4_0"})
	return h, cache, func(args ...string) result {
		var out, errOut syncBuffer
		a := &app{out: &out, err: &errOut, now: time.Now, root: root}
		args = append([]string{"models"}, args...)
		code := run(t.Context(), a, append(args, "--config", config, "--pools-dir", pools, "--socket", h.socket))
		return result{code, out.String(), errOut.String()}
	}
}

// TestModels: what is downloaded is listed with its pools, and only what no pool names is removed.
func TestModels(t *testing.T) {
	there := func(t *testing.T, cache, want string) {
		t.Helper()
		var names []string
		entries, err := os.ReadDir(cache)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, strings.TrimPrefix(e.Name(), "models--acme--"))
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("the cache has %s, want %s", got, want)
		}
	}
	t.Run("list", func(t *testing.T) {
		_, _, ctl := shelved(t)
		r := ctl("-o", "json")
		var models []model
		if err := json.Unmarshal([]byte(r.out), &models); err != nil || r.code != exitOK {
			t.Fatalf("%v, %+v", err, r)
		}
		got := make(map[string]string)
		for _, m := range models {
			got[m.Name] = fmt.Sprintf("%d %d %v", m.Bytes, m.Files, m.Pools)
		}
		want := map[string]string{"hf:acme/named": "1000 1 [a]", "hf:acme/served": "1000 1 [b]", "hf:acme/old": "1000 1 []",
			"hf:acme/new": "1000 1 []"}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		if r := ctl(); !strings.Contains(r.out, "hf:acme/old     1.0 kB  1 ") || !strings.Contains(r.out, "5 d 0 h") {
			t.Errorf("the table: %s", r.out)
		}
	})
	t.Run("rm", func(t *testing.T) {
		h, cache, ctl := shelved(t)
		for _, name := range []string{"hf:acme/named", "hf:acme/served/other.gguf", "hf:acme/none"} {
			if r := ctl("rm", name); r.code != exitFailed {
				t.Errorf("rm %s: %+v", name, r)
			}
		}
		there(t, cache, "named new old served")
		if r := ctl("rm", "hf:acme/old"); r.code != exitOK {
			t.Errorf("%+v", r)
		}
		there(t, cache, "named new served")
		h.socket += ".gone"
		if r := ctl("rm", "hf:acme/new"); r.code != exitUnreachable {
			t.Errorf("without the daemon: %+v", r)
		}
		there(t, cache, "named new served")
	})
	t.Run("prune", func(t *testing.T) {
		_, cache, ctl := shelved(t)
		if r := ctl("prune"); r.code != exitUsage {
			t.Errorf("without a size: %+v", r)
		}
		r := ctl("prune", "--to", "3000")
		if r.code != exitOK || !strings.Contains(r.out, "acme/old") || strings.Contains(r.out, "acme/new") {
			t.Errorf("%+v", r)
		}
		there(t, cache, "named new old served")
		if r := ctl("prune", "--to", "3000", "--remove"); r.code != exitOK {
			t.Errorf("%+v", r)
		}
		there(t, cache, "named new served")
		r = ctl("prune", "--to", "0", "--remove")
		if r.code != exitFailed || !strings.Contains(r.errOut, "pools name the rest") {
			t.Errorf("%+v", r)
		}
		there(t, cache, "named served")
	})
	t.Run("verify", func(t *testing.T) {
		_, cache, ctl := shelved(t)
		if r := ctl("verify"); r.code != exitOK || strings.Count(r.out, ": ok") != 4 {
			t.Errorf("%+v", r)
		}
		blobs, err := filepath.Glob(filepath.Join(cache, "models--acme--old/blobs/*"))
		if err != nil || len(blobs) != 1 {
			t.Fatal(blobs, err)
		}
		if err := os.WriteFile(blobs[0], []byte("broken"), 0o644); err != nil {
			t.Fatal(err)
		}
		if r := ctl("verify", "hf:acme/old"); r.code != exitFailed || !strings.Contains(r.out, "WRONG") {
			t.Errorf("%+v", r)
		}
	})
}
