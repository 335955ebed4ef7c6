//go:build machine

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// layerOf is a layer of one entry, with zeros as its content.
func layerOf(t *testing.T, h tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(w, zeros{}, h.Size); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// TestImageSurvivesKills: the manager, the program that downloads and unpacks, and PID 1 end or
// start again at ten random moments, and the pool of the image goes to ready. Nothing of an attempt
// that was killed is left, and a hostile layer changes nothing outside of the image.
func TestImageSurvivesKills(t *testing.T) {
	t.Parallel()
	layer := llamaLayer(t)
	h := installed(t, machine.Trixie)
	h.shell("mkdir -p /srv/images/1 /srv/images/bad /srv/images/device /srv/images/bomb")
	if err := h.M.CopyIn(t.Context(), layer, "/srv/images/1/layer.tar.gz"); err != nil {
		t.Fatal(err)
	}
	for name, header := range map[string]tar.Header{
		"1/suid":   {Typeflag: tar.TypeReg, Name: "usr/bin/suid", Mode: 0o6755, Size: 1 << 10},
		"bad/a":    {Typeflag: tar.TypeReg, Name: "../../../../tmp/escaped", Mode: 0o644},
		"device/a": {Typeflag: tar.TypeBlock, Name: "srv/disk", Mode: 0o666, Devmajor: 8},
		"bomb/a":   {Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: 512 << 20},
	} {
		if err := h.M.WriteFile(t.Context(), "/srv/images/"+name+".tar.gz", layerOf(t, header), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	serve := strings.Replace(serveImages, "-images ", "-slow 1500000 -images ", 1)
	serve = strings.Replace(serve, "-image acme/bad:1=/srv/images/bad", "-image acme/bad:1=/srv/images/bad "+
		"-image acme/device:1=/srv/images/device -image acme/bomb:1=/srv/images/bomb", 1)
	h.shell("echo /x | tee /srv/images/device/entrypoint >/srv/images/bomb/entrypoint" + serve)
	defer h.shell(endImages)
	h.write(host.ConfigFile, withImages)
	h.pool("b", inImage("acme/llama:1"))
	h.reload()
	kills := []string{"manager", "manager", "manager", "manager", "download", "download", "download", "download",
		"PID 1", "PID 1"}
	rand.Shuffle(len(kills), func(i, j int) { kills[i], kills[j] = kills[j], kills[i] })
	hit := 0
	for i, what := range kills {
		after := time.Duration(rand.IntN(1500)) * time.Millisecond
		unit := h.download()
		t.Logf("%d: %s, %s after %s ran", i, what, after, unit)
		if unit != "" {
			hit++
		}
		time.Sleep(after)
		switch what {
		case "manager":
			h.must("systemctl", "kill", "-s", "KILL", host.ManagerUnit)
		case "PID 1":
			h.must("systemctl", "daemon-reexec")
		default: // it may be whole, or wait for its next attempt
			h.shell("systemctl kill -s KILL '" + unit + "' || true")
		}
	}
	if hit == 0 { // a slow machine has fewer than all
		t.Error("no kill was before the image was whole")
	}
	h.completes(h.wait("b", isReady))
	out := h.shell("cd " + imageCache + " && ls -d image--*/snapshots/*.* image--*/blobs/* 2>/dev/null || true; " +
		"find . -path '*/rootfs/usr/bin/suid' -perm /6000")
	if out != "" {
		t.Errorf("left in the cache, or with rights of others: %s", out)
	}
	h.shell("find " + imageCache + " -path '*/rootfs/usr/bin/suid' | grep .")

	for id, c := range map[string]struct{ image, what string }{
		"path":   {"acme/bad:1", "leads out of the image"},
		"device": {"acme/device:1", "is a device"},
		"bomb":   {"acme/bomb:1", "that unpacks to more than"},
	} {
		t.Run(id, func(t *testing.T) {
			h := h.in(t)
			name := strings.TrimSuffix(strings.TrimPrefix(c.image, "acme/"), ":1")
			h.pool(id, inImage(c.image))
			defer h.shell("rm -f " + host.PoolFile(id))
			h.reload()
			p := h.wait(id, failsWith("PROVISION_FAILED"))
			if !strings.Contains(p.LastError, c.what) {
				t.Errorf("%s (%s)", p.LastError, p.Hint)
			}
			out := h.shell("ls /tmp/escaped " + imageCache + "/image--*" + name + "*/snapshots/*/rootfs " +
				"2>/dev/null || true")
			if out != "" {
				t.Errorf("left of it: %s", out)
			}
		})
	}
	t.Run("drain", func(t *testing.T) {
		h := h.in(t)
		h.must("poolctl", "drain", "b", "--wait")
		if out := h.shell("systemctl list-units --plain --no-legend --state=active 'pool-engine@b*'"); out != "" {
			t.Errorf("after the drain: %s", out)
		}
		h.must("poolctl", "resume", "b", "--wait")
		h.completes(h.wait("b", isReady))
	})
}
