package hostconfig

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefusedDownloads: poolctl check finds what the policy would refuse once the pool starts, with
// the place in the pool's file and the line to change; the manager's own check does not, since a
// model may be put into the cache later.
func TestRefusedDownloads(t *testing.T) {
	for _, c := range []struct {
		name, config, model, says, hint string // says is empty: nothing is wrong
		cached                          bool
	}{
		{name: "nothing_is_downloaded", model: "hf:acme/tiny/a.gguf", says: "downloads nothing", hint: `egress = "fetch"`},
		{name: "it_is_in_the_cache", model: "hf:acme/tiny/a.gguf", cached: true},
		{name: "another_file_is_in_the_cache", model: "hf:acme/tiny/b.gguf", cached: true, says: "downloads nothing", hint: `egress = "fetch"`},
		{name: "downloads_are_permitted", config: `policy.egress = "fetch"`, model: "hf:acme/tiny/a.gguf"},
		{name: "a_host_that_is_not_listed", config: `policy.egress = "fetch"`, model: "https://files.example/a.gguf", says: "files.example",
			hint: `"files.example"]`},
		{name: "any_host", config: `policy.egress = "allow"`, model: "oci:registry.example/a:v1"},
		{name: "no_store", config: `policy.egress = "allow"`, model: "s3://bucket/a.gguf", says: "s3_endpoint is not set", hint: "s3_endpoint ="},
		{name: "a_file_of_this_host", model: "file:/srv/none.gguf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cache, pools := filepath.Join(dir, "cache"), filepath.Join(dir, "pools.d")
			config := filepath.Join(dir, "config.toml")
			settings := "require_gpu = false\nprovisioning.cache_dir = \"" + cache + "\"\n" + c.config + "\n"
			pool := "engine = \"llamacpp\"\nmodel = \"" + c.model + "\"\n"
			snapshot := filepath.Join(cache, "models--acme--tiny/snapshots/main")
			err := errors.Join(os.MkdirAll(pools, 0o755), os.MkdirAll(snapshot, 0o755),
				os.WriteFile(config, []byte(settings), 0o644),
				os.WriteFile(filepath.Join(pools, "a.toml"), []byte(pool), 0o644))
			if c.cached {
				err = errors.Join(err, os.WriteFile(filepath.Join(snapshot, "a.gguf"), []byte("GGUF"), 0o644))
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := Check(config, pools, ""); len(got) > 0 {
				t.Errorf("the manager refuses it: %v", got)
			}
			got := CheckFiles(config, pools, "").Problems
			switch {
			case c.says == "" && len(got) > 0:
				t.Errorf("problems %v", got)
			case c.says != "" && (len(got) != 1 || got[0].Line != 2 || got[0].PoolID != "a" ||
				!strings.Contains(got[0].Error(), c.says) || !strings.Contains(got[0].Action(), c.hint)):
				t.Errorf("problems %+v", got)
			}
		})
	}
}
