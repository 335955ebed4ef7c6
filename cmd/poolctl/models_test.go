package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/golden"
	"github.com/pool-managerd/pool-managerd/units/image"
	"github.com/pool-managerd/pool-managerd/units/modelref"
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

// TestListOfModels shows the list as a person sees it.
func TestListOfModels(t *testing.T) {
	_, _, ctl := shelved(t)
	r := ctl()
	golden.File(t, filepath.Join("testdata", "models.golden"), "$ poolctl models\n"+r.out, *update)
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
	t.Run("images", func(t *testing.T) {
		_, cache, ctl := shelved(t)
		const digest = "sha256:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
		for _, name := range []string{"used", "unused"} {
			ref, err := modelref.ParseImage("registry.example/acme/" + name + ":1")
			if err != nil {
				t.Fatal(err)
			}
			data, err := image.Info{Ref: ref.String(), Digest: digest, Bytes: 3000, Entries: 7}.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			at := filepath.Join(cache, ref.Directory(), "snapshots", "commit")
			err = errors.Join(os.MkdirAll(image.Root(at), 0o755),
				os.Mkdir(filepath.Join(cache, ref.Directory(), "blobs"), 0o755),
				os.WriteFile(filepath.Join(at, image.FileName), data, 0o644))
			if err != nil {
				t.Fatal(err)
			}
		}
		pools := filepath.Join(strings.TrimSuffix(cache, "/var/cache/pool-managerd/models"), "pools.d")
		file := "engine = \"llamacpp\"\nmodel = \"file:/a.gguf\"\ndevices = []\n" +
			"[provisioning]\nmode = \"container\"\nimage = \"registry.example/acme/used:2\"\n"
		if err := os.WriteFile(filepath.Join(pools, "c.toml"), []byte(file), 0o644); err != nil {
			t.Fatal(err)
		}
		r := ctl("-o", "json")
		var models []model
		if err := json.Unmarshal([]byte(r.out), &models); err != nil || r.code != exitOK {
			t.Fatalf("%v, %+v", err, r)
		}
		got := make(map[string]string)
		for _, m := range models {
			got[m.Name] = fmt.Sprintf("%d %d %s %v", m.Bytes, m.Files, text(m.Digest), m.Pools)
		}
		for name, pools := range map[string]string{"used": "[c]", "unused": "[]"} {
			if row := got["image:registry.example/acme/"+name]; row != "3000 7 "+digest+" "+pools {
				t.Errorf("%s: %q of %v", name, row, got)
			}
		}
		if r := ctl("rm", "image:registry.example/acme/used:1"); r.code == exitOK ||
			!strings.Contains(r.errOut, "in use by c") {
			t.Errorf("an image that a pool names: %+v", r)
		}
		if r := ctl("rm", "image:registry.example/acme/unused"); r.code != exitOK {
			t.Errorf("%+v", r)
		}
	})
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
