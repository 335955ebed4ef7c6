package hostconfig

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// TestImagesThatCannotRun: poolctl check names an image that would have to be downloaded and may
// not be, and GPUs whose driver an image would not get, each with its line; the manager's own check
// does not, since both may come later.
func TestImagesThatCannotRun(t *testing.T) {
	const gpu = `{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu", "devices": [{"name": "0", "containerEdits": {}}],
		"containerEdits": {"env": ["A=b"]}}`
	for _, c := range []struct {
		name, config, devices, cdi string
		line                       int // 0: nothing is wrong
		says, hint                 string
		cached                     bool
	}{
		{name: "nothing_is_downloaded", devices: "[]", line: 6, says: "downloads nothing", hint: `egress = "fetch"`},
		{name: "it_is_in_the_cache", devices: "[]", cached: true},
		{name: "downloads_are_permitted", config: `policy.egress = "allow"`, devices: "[]"},
		{name: "a_registry_that_is_not_listed", config: `policy.egress = "fetch"`, devices: "[]", line: 6,
			says: "registry.example", hint: `"registry.example"]`},
		{name: "its_gpu_is_described", devices: "[0]", cdi: gpu, cached: true},
		{name: "no_file_describes_gpus", devices: "[0]", cached: true, line: 3, says: "describes devices nvidia.com/gpu",
			hint: "nvidia-ctk cdi generate"},
		{name: "another_gpu_is_described", devices: "[1]", cdi: gpu, cached: true, line: 3,
			says: "nvidia.com/gpu=1; there are 0",
			hint: "nvidia-ctk cdi generate"},
		{name: "the_file_is_broken", devices: "[0]", cdi: "{", cached: true, line: 3, says: "gpu.json",
			hint: "nvidia-ctk cdi generate"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			cache, pools := filepath.Join(dir, "cache"), filepath.Join(dir, "pools.d")
			config, driver := filepath.Join(dir, "config.toml"), filepath.Join(dir, "cdi")
			settings := "require_gpu = false\nprovisioning.cache_dir = \"" + cache + "\"\n" +
				"policy.allowed_images = [\"registry.example\"]\n" + c.config + "\n"
			pool := "engine = \"llamacpp\"\nmodel = \"file:/srv/a.gguf\"\ndevices = " + c.devices +
				"\n[provisioning]\nmode = \"container\"\nimage = \"registry.example/acme/llama:1\"\n"
			ref, err := modelref.ParseImage("registry.example/acme/llama:1")
			if err != nil {
				t.Fatal(err)
			}
			snapshots := filepath.Join(cache, ref.Directory())
			digest := "sha256:" + strings.Repeat("a", 64)
			files := map[string]string{config: settings, filepath.Join(pools, "a.toml"): pool}
			if c.cached {
				files[filepath.Join(snapshots, "refs", "1")] = strings.Repeat("a", 64)
				files[filepath.Join(snapshots, "snapshots", strings.Repeat("a", 64), "image.json")] =
					`{"format": 1, "ref": "image:registry.example/acme/llama:1", "architecture": "amd64", "digest": "` +
						digest + `"}`
			}
			if c.cdi != "" {
				files[filepath.Join(driver, "gpu.json")] = c.cdi
			}
			for name, content := range files {
				err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(content), 0o644))
				if err != nil {
					t.Fatal(err)
				}
			}
			loaded := Load(config, pools)
			if len(loaded.Problems)+len(loaded.Denied) > 0 {
				t.Fatalf("the manager refuses it: %v %v", loaded.Problems, loaded.Denied)
			}
			got := append(refusedDownloads(loaded), missingDrivers(loaded, []string{driver})...)
			switch {
			case c.line == 0 && len(got) > 0:
				t.Errorf("problems %+v", got)
			case c.line != 0 && (len(got) != 1 || got[0].Line != c.line || got[0].PoolID != "a" ||
				!strings.Contains(got[0].Error(), c.says) || !strings.Contains(got[0].Action(), c.hint)):
				t.Errorf("problems %+v", got)
			}
		})
	}
}
