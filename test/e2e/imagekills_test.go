//go:build machine

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
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
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			hostileImages(h, layer)
			defer h.shell(endImages)
			imageSurvives(h)
			if release != machine.Trixie {
				return
			}
			for id, c := range map[string]struct{ image, what string }{
				"path":   {"acme/bad:1", "leads out of the image"},
				"device": {"acme/device:1", "is a device"},
				"bomb":   {"acme/bomb:1", "that unpacks to more than"},
			} {
				t.Run(id, func(t *testing.T) { imageRefused(h.in(t), id, c.image, c.what) })
			}
			t.Run("drain", func(t *testing.T) { imageDrained(h.in(t)) })
		})
	}
}

// hostileImages serves the engine's image, slowly, and others of which a layer is hostile.
func hostileImages(h *site, layer string) {
	h.t.Helper()
	h.shell("mkdir -p /srv/images/1 /srv/images/bad /srv/images/device /srv/images/bomb")
	if err := h.M.CopyIn(h.t.Context(), layer, "/srv/images/1/layer.tar.gz"); err != nil {
		h.t.Fatal(err)
	}
	for name, header := range map[string]tar.Header{
		"1/suid":   {Typeflag: tar.TypeReg, Name: "usr/bin/suid", Mode: 0o6755, Size: 1 << 10},
		"bad/a":    {Typeflag: tar.TypeReg, Name: "../../../../tmp/escaped", Mode: 0o644},
		"device/a": {Typeflag: tar.TypeBlock, Name: "srv/disk", Mode: 0o666, Devmajor: 8},
		"bomb/a":   {Typeflag: tar.TypeReg, Name: "zeros", Mode: 0o644, Size: 512 << 20},
	} {
		err := h.M.WriteFile(h.t.Context(), "/srv/images/"+name+".tar.gz", layerOf(h.t, header), 0o644)
		if err != nil {
			h.t.Fatal(err)
		}
	}
	serve := strings.Replace(serveImages, "-images ", "-slow 1500000 -images ", 1)
	serve = strings.Replace(serve, "-image acme/bad:1=/srv/images/bad", "-image acme/bad:1=/srv/images/bad "+
		"-image acme/device:1=/srv/images/device -image acme/bomb:1=/srv/images/bomb", 1)
	h.shell("echo /x | tee /srv/images/device/entrypoint >/srv/images/bomb/entrypoint" + serve)
}

func imageSurvives(h *site) {
	h.write(host.ConfigFile, withImages)
	h.pool("b", inImage("acme/llama:1"))
	h.reload()
	hit := h.kills(1500 * time.Millisecond)
	h.t.Logf("%d of ten kills were before the image was whole", hit)
	if hit == 0 { // a slow machine has fewer than all
		h.t.Error("no kill was before the image was whole")
	}
	h.completes(h.wait("b", isReady))
	out := h.shell("cd " + imageCache + " && ls -d image--*/snapshots/*.* image--*/blobs/* 2>/dev/null || true; " +
		"find . -path '*/rootfs/usr/bin/suid' -perm /6000")
	if out != "" {
		h.t.Errorf("left in the cache, or with rights of others: %s", out)
	}
	h.shell("find " + imageCache + " -path '*/rootfs/usr/bin/suid' | grep .")
}

func imageRefused(h *site, id, image, what string) {
	name := strings.TrimSuffix(strings.TrimPrefix(image, "acme/"), ":1")
	h.pool(id, inImage(image))
	defer h.shell("rm -f " + host.PoolFile(id))
	h.reload()
	p := h.wait(id, failsWith("PROVISION_FAILED"))
	if !strings.Contains(p.LastError, what) {
		h.t.Errorf("%s (%s)", p.LastError, p.Hint)
	}
	out := h.shell("ls /tmp/escaped " + imageCache + "/image--*" + name + "*/snapshots/*/rootfs 2>/dev/null || true")
	if out != "" {
		h.t.Errorf("left of it: %s", out)
	}
}

func imageDrained(h *site) {
	h.must("poolctl", "drain", "b", "--wait")
	if out := h.shell("systemctl list-units --plain --no-legend --state=active 'pool-engine@b*'"); out != "" {
		h.t.Errorf("after the drain: %s", out)
	}
	h.must("poolctl", "resume", "b", "--wait")
	h.completes(h.wait("b", isReady))
}
