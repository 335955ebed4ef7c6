//go:build machine

package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// layModels puts a model in all the ways that people keep one.
const layModels = `
	rm -rf /srv/[!m]* /mnt/disk /home/ann; mkdir -p /home/ann/models /mnt/disk/models /srv/closed /srv/parts/blobs /srv/hub/blobs /srv/hub/snapshots/1 /opt/models
	tiny=/srv/models/tiny.gguf
	cp $tiny /home/ann/models/real.gguf; chmod 711 /home/ann
	cp $tiny /mnt/disk/models/tiny.gguf; ln -s /mnt/disk/models /srv/big
	cp $tiny /srv/closed/tiny.gguf; chmod 700 /srv/closed
	ln -sf tiny.gguf /srv/models/near.gguf
	ln -sf /home/ann/models/real.gguf /srv/models/far.gguf
	ln -sf /srv/models/tiny.gguf /opt/models/seen.gguf
	for n in 1 2; do cp $tiny /srv/parts/blobs/$n; ln -s blobs/$n /srv/parts/m-0000$n-of-00002.gguf; done
	cp $tiny /srv/hub/blobs/abc; ln -s ../../blobs/abc /srv/hub/snapshots/1/model.safetensors
	echo '{}' >/srv/hub/snapshots/1/config.json; ln -s snapshots/1 /srv/hub/current`

// listDigest computes the digest of several files as in the documentation.
const listDigest = `find -L . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`

// opens is a pool whose engine starts only if it can open one file.
func opens(model, file string, lines ...string) poolFile {
	p := command("-m", file).quick()
	return p.with(`model = "file:` + model + `"`).with(lines...)
}

// TestModelsAsPeopleKeepThem: links, parts and directories of links lead to the real weights inside
// of the engine's sandbox, where nothing else of their trees is.
func TestModelsAsPeopleKeepThem(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.shell(layModels)
			defer h.shell("rm -rf /srv/[!m]* /srv/models/*ar.gguf /mnt/disk /home/ann /opt/models")
			sum := func(script string) string {
				return `model_digest = "sha256:` + strings.Fields(h.shell(script))[0] + `"`
			}
			hub := []string{"/srv/hub/blobs/abc", "/srv/hub/snapshots/1/config.json",
				"/srv/hub/snapshots/1/model.safetensors"}
			cases := []struct {
				id   string
				file poolFile
				sees []string // of the hidden trees
			}{
				{"near", opens("/srv/models/near.gguf", "{model}"), []string{"/srv/models/near.gguf"}},
				{"far", opens("/srv/models/far.gguf", "{model}", sum("sha256sum "+host.TinyModel)), []string{"/srv/models/far.gguf"}},
				{"folder", opens("/srv/big/tiny.gguf", "{model}"), []string{"/srv/big/tiny.gguf"}},
				{"closed", opens("/srv/closed/tiny.gguf", "{model}"), []string{"/srv/closed/tiny.gguf"}},
				{"visible", opens("/opt/models/seen.gguf", "{model}"), nil},
				{"parts", opens("/srv/parts/m-00001-of-00002.gguf", "/srv/parts/m-00002-of-00002.gguf", sum("cd /srv/parts; sha256sum m-*.gguf | sha256sum")),
					[]string{"/srv/parts/m-00001-of-00002.gguf", "/srv/parts/m-00002-of-00002.gguf"}},
				{"hub", opens("/srv/hub/snapshots/1", "{model}/model.safetensors", sum("cd /srv/hub/snapshots/1; "+listDigest)), hub},
				{"now", opens("/srv/hub/current", "{model}/model.safetensors", sum("cd /srv/hub/current; "+listDigest)), hub},
			}
			for _, c := range cases {
				h.pool(c.id, c.file)
			}
			h.reload()
			for _, c := range cases {
				t.Run(c.id, func(t *testing.T) {
					h := h.in(t)
					h.wait(c.id, isReady, restarted(0))
					seen := h.shell(fmt.Sprintf("nsenter --target %d --mount find /srv /home /root /mnt ! -type d | "+
						"sort", h.engine(c.id).PID))
					if got := strings.Fields(seen); !slices.Equal(got, c.sees) {
						t.Errorf("of the hidden trees the engine sees %v, want %v", got, c.sees)
					}
				})
			}
		})
	}
}

// TestEnginesAsPeopleKeepThem: an engine that was built in a home serves; one that cannot run is
// reported, with the loader's own words; libraries that only [env] leads to are found; and asking
// for a version shows the engine nothing.
func TestEnginesAsPeopleKeepThem(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.shell(`
		rm -rf /home/ann; mkdir -p /home/ann/llama/build/bin /home/ann/bad; chmod 711 /home/ann
		cp /usr/bin/llama-server /home/ann/llama/build/bin/; ln -sf /home/ann/llama/build/bin/llama-server /usr/local/bin/my-llama
		cp /usr/bin/llama-server /root/llama-server
		sed 's/libllama\([.-]\)/libmissi\1/g' /usr/bin/llama-server >/home/ann/bad/no-library
		mkdir -p /opt/llama/gpu/bin /opt/llama/gpu/lib64; cp /home/ann/bad/no-library /opt/llama/gpu/bin/llama-server; chmod 755 /opt/llama/gpu/bin/*
		for l in /usr/lib/*/libllama[.-]* /usr/lib/*/llama/libllama[.-]*; do n=${l##*/libllama}; cp $l /opt/llama/gpu/lib64/libmissi$n; done
		cp /usr/bin/llama-server /home/ann/bad/foreign; printf '\267' | dd of=/home/ann/bad/foreign bs=1 seek=18 conv=notrunc status=none
		cat >/home/ann/bad/curious <<-'END'
			#!/bin/sh
			[ "$1" = --version ] || exec sleep infinity
			files=$(cat /srv/models/tiny.gguf /etc/pool-managerd/config.toml /home/ann/secret 2>/dev/null | wc -c)
			api=$(curl --silent --max-time 2 --unix-socket /run/pool-managerd/api.sock http://x/health http://127.0.0.1:9200/health | wc -c)
			echo "curious: uid $(test $(id -u) -gt 1000 && echo dynamic), $(grep -c : /proc/net/dev) interfaces, $files bytes of files, $api of the API"
		END
		echo secret >/home/ann/secret; chmod 755 /home/ann/bad/*`)
	defer h.shell("rm -rf /home/ann /usr/local/bin/my-llama /root/llama-server /opt/llama")
	with := func(binary string) poolFile { return llama().quick().table("provisioning", `binary = "`+binary+`"`) }
	good := map[string]string{"home": "/home/ann/llama/build/bin/llama-server", "link": "my-llama",
		"root": "/root/llama-server"}
	for id, binary := range good {
		h.pool(id, with(binary))
	}
	good["lib64"] = "/opt/llama/gpu/bin/llama-server"
	h.pool("lib64", with(good["lib64"]).table("env", `LD_LIBRARY_PATH = "/opt/llama/gpu/lib64"`))
	bad := []struct{ id, binary, code, says string }{
		{"no-library", "/home/ann/bad/no-library", "PROVISION_FAILED", "library libmissi"},
		{"foreign", "/home/ann/bad/foreign", "PROVISION_FAILED", "it was built for aarch64"},
	}
	for _, c := range bad {
		h.pool(c.id, with(c.binary))
	}
	h.pool("curious", with("/home/ann/bad/curious"))
	h.reload()
	for id := range good {
		t.Run(id, func(t *testing.T) {
			if p := h.in(t).wait(id, isReady, restarted(0)); !strings.HasPrefix(p.EngineVersion, "0.") {
				t.Errorf("its version is %q", p.EngineVersion)
			}
		})
	}
	for _, c := range bad {
		t.Run(c.id, func(t *testing.T) {
			h.in(t).wait(c.id, failsWith(c.code), condition{"an error with " + c.says, func(p host.Pool) bool {
				return strings.Contains(p.LastError, c.says) // of a run that has ended, once its log is read
			}})
		})
	}
	t.Run("asked_in_the_dark", func(t *testing.T) {
		h := h.in(t)
		h.wait("curious", condition{"asked", func(p host.Pool) bool {
			return p.EngineVersion == "" && p.State != "" && p.State != "staging" && p.State != "preparing"
		}})
		log := h.must("journalctl", "--no-pager", "--output=verbose", "--unit="+host.ManagerUnit)
		got := regexp.MustCompile(`curious: [^"\n]*`).FindString(log)
		if want := "curious: uid dynamic, 1 interfaces, 0 bytes of files, 0 of the API"; got != want {
			t.Errorf("it found %q, want %q", got, want)
		}
	})
}

// TestReplacedModel: a link that is swapped and a file that is replaced in place are a new version
// at the next reload, and a file that is gone is reported while the engine serves on.
func TestReplacedModel(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.shell(`cd /srv/models; cp tiny.gguf a.gguf; cp tiny.gguf b.gguf; printf x >>b.gguf; ln -sfn a.gguf current.gguf`)
	defer h.shell("rm -f /srv/models/[!t]*.gguf")
	file := llama().quick()
	file.keys = slices.DeleteFunc(file.keys, func(key string) bool { return strings.HasPrefix(key, "model = ") })
	file = file.with(`model = "file:/srv/models/current.gguf"`)
	h.pool("a", file)
	h.reload()
	h.wait("a", isReady)
	serves := func(t *testing.T, was int, model string) int {
		t.Helper()
		h := h.in(t)
		// The new engine has another side of the replica, and is alone when the reload is done.
		pid := h.wait("a", isReady, condition{"another process alone", func(p host.Pool) bool {
			return p.Reload == nil && len(p.Replicas) == 1 && p.Replicas[0].PID != was && p.Replicas[0].PID != 0
		}}).Replicas[0].PID
		h.must("cmp", fmt.Sprintf("/proc/%d/root/srv/models/current.gguf", pid), model)
		return pid
	}
	pid := serves(t, 0, "/srv/models/a.gguf")
	t.Run("a_link_is_swapped", func(t *testing.T) {
		h.in(t).shell("ln -sfn b.gguf /srv/models/current.gguf; poolctl reload a --wait")
		pid = serves(t, pid, "/srv/models/b.gguf")
	})
	t.Run("a_file_is_replaced_in_place", func(t *testing.T) {
		h := h.in(t)
		h.shell("cp /srv/models/a.gguf /srv/models/b.new; mv /srv/models/b.new /srv/models/b.gguf")
		h.reload()
		pid = serves(t, pid, "/srv/models/a.gguf")
	})
	t.Run("nothing_changed", func(t *testing.T) {
		h := h.in(t)
		h.reload()
		h.shell("poolctl reload a --wait")
		if now := h.get("a").Replicas[0].PID; now != pid {
			t.Errorf("process %d, was %d", now, pid)
		}
	})
	t.Run("it_is_gone", func(t *testing.T) {
		h := h.in(t)
		out := h.shell("rm /srv/models/b.gguf; poolctl reload a --wait 2>&1 && echo done; true")
		if !strings.Contains(out, "MODEL_NOT_FOUND") || strings.Contains(out, "done") {
			t.Errorf("poolctl reload printed %q", out)
		}
		if p := h.wait("a", isReady); p.Replicas[0].PID != pid {
			t.Errorf("the engine was replaced: %s", p)
		}
	})
}
