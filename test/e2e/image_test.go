//go:build machine

package e2e

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// packLlama packs the real llama-server with all that it needs: a layer of an image that has
// nothing else, not even a shell.
const packLlama = `
	rm -rf /tmp/image; mkdir /tmp/image
	{ echo /usr/bin/llama-server; ldd /usr/bin/llama-server | grep -o '/[^ ]*'
	  dpkg-query -L $(dpkg-query -W -f '${Package}\n' 'libggml*' 'libllama*') | grep '\.so' || true; } | sort -u |
		xargs cp --parents -L -t /tmp/image
	tar -C /tmp/image -czf /tmp/layer.tar.gz .; rm -rf /tmp/image`

// llamaLayer returns that layer, made in a machine where the engine is installed.
func llamaLayer(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "layer.tar.gz")
	// In a test of its own, which returns the machine at its end: see lend.
	made := t.Run("layer", func(t *testing.T) {
		h := installed(t, machine.Forky)
		h.shell(packLlama)
		if err := h.M.CopyOut(t.Context(), "/tmp/layer.tar.gz", file); err != nil {
			t.Fatal(err)
		}
		h.shell("rm /tmp/layer.tar.gz")
	})
	if !made {
		t.FailNow()
	}
	return file
}

// hostileLayer has a file that leads out of the image.
func hostileLayer(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: "../../../../tmp/escaped", Mode: 0o644}
	if err := w.WriteHeader(h); err != nil {
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

// imageRegistry is the registry of the machine: plain HTTP, as clients of registries speak with
// localhost.
const imageRegistry = "registry.localhost:5000"

const serveImages = `
	grep -q registry.localhost /etc/hosts || echo '127.0.0.1 registry.localhost' >>/etc/hosts
	mkdir -p /srv/images/2; cp /srv/images/1/*.tar.gz /srv/images/2
	mkdir -p /srv/images/large /tmp/large
	dd if=/dev/zero of=/tmp/large/zeros bs=1M count=150 status=none
	tar -C /tmp/large -czf /srv/images/large/layer.tar.gz .; rm -r /tmp/large
	echo /zeros >/srv/images/large/entrypoint
	echo /usr/bin/llama-server | tee /srv/images/1/entrypoint /srv/images/bad/entrypoint /srv/images/2/entrypoint >/dev/null
	cat >/run/systemd/system/images.service <<-EOF
	[Service]
	Type=exec
	ExecStart=/usr/local/bin/hub -images 127.0.0.1:5000 \
		-image acme/llama:1=/srv/images/1 -image acme/llama:2=/srv/images/2 -image acme/bad:1=/srv/images/bad \
		-image acme/large:1=/srv/images/large
	EOF
	systemctl daemon-reload; systemctl start images
	until curl --silent --output /dev/null http://registry.localhost:5000/v2/; do sleep 0.1; done`

const endImages = `
	systemctl stop images 'pool-fetch@*' || true; rm -f /run/systemd/system/images.service
	systemctl daemon-reload; systemctl reset-failed || true
	sed -i /registry.localhost/d /etc/hosts; rm -rf /srv/images /var/cache/pool-managerd/models`

// withImages is the host's configuration with images of that registry.
const withImages = host.Config + "policy.egress = \"fetch\"\npolicy.allowed_hosts = [\"registry.localhost\"]\n" +
	"policy.allowed_images = [\"" + imageRegistry + "/acme/\"]\n"

// inImage is a pool whose engine is in an image.
func inImage(image string) poolFile {
	p := llama().quick()
	p.tables = append(p.tables, "[provisioning]\nmode = \"container\"\nimage = \""+imageRegistry+"/"+image+"\"")
	return p
}

// serveEngine runs a registry with the engine's layer as an image, and with a hostile one, until
// the returned function is called.
func (s *site) serveEngine(layer string) (end func()) {
	s.t.Helper()
	s.shell("mkdir -p /srv/images/1 /srv/images/bad")
	if err := s.M.CopyIn(s.t.Context(), layer, "/srv/images/1/layer.tar.gz"); err != nil {
		s.t.Fatal(err)
	}
	if err := s.M.WriteFile(s.t.Context(), "/srv/images/bad/layer.tar.gz", hostileLayer(s.t), 0o644); err != nil {
		s.t.Fatal(err)
	}
	s.shell(serveImages)
	return func() { s.shell(endImages) }
}

// TestImage: the real llama-server in an image serves without a container engine, also on releases
// whose own C library is older than the one that it needs.
func TestImage(t *testing.T) {
	t.Parallel()
	layer := llamaLayer(t)
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			defer h.serveEngine(layer)()
			t.Run("denied_by_default", func(t *testing.T) { imageDenied(h.in(t)) })
			if !t.Run("serves", func(t *testing.T) { imageServes(h.in(t)) }) {
				return // the others would wait for it
			}
			t.Run("crash_after_a_daemon_reload", func(t *testing.T) { imageCrashes(h.in(t)) })
			t.Run("over_the_managers_death", func(t *testing.T) { imageAdopted(h.in(t)) })
			t.Run("another_image", func(t *testing.T) { imageReloaded(h.in(t)) })
			t.Run("refused", func(t *testing.T) { imagesRefused(h.in(t)) })
			t.Run("without_the_registry", func(t *testing.T) {
				h := h.in(t)
				h.must("systemctl", "stop", "images")
				h.must("poolctl", "restart", "a", "--wait")
				h.wait("a", isReady)
				h.must("systemctl", "start", "images")
			})
			t.Run("killed_while_it_unpacks", func(t *testing.T) { imageKilled(h.in(t)) })
			t.Run("full_disk", func(t *testing.T) { imageWithoutSpace(h.in(t)) })
			t.Run("with_a_gpu", func(t *testing.T) { imageWithGPU(h.in(t)) })
		})
	}
}

func imageDenied(h *site) {
	h.pool("a", inImage("acme/llama:1"))
	if h.Reload(h.t.Context()).Check() == nil {
		h.t.Error("a reload with a pool that policy refuses succeeds")
	}
	p := h.wait("a", inState("refused"), failsWith("POLICY_DENIED"))
	if !strings.Contains(p.Hint, `allowed_images = ["`+imageRegistry+`/acme/llama"]`) {
		h.t.Errorf("hint %q", p.Hint)
	}
}

// imageServes: the engine answers, sees its image and nothing of the host, and is as little exposed
// as any.
func imageServes(h *site) {
	h.write(host.ConfigFile, withImages)
	h.reload()
	p := h.wait("a", isReady)
	h.completes(p)
	if v := p.EngineVersion; !strings.Contains(v, "(sha256:") {
		h.t.Errorf("version %q", v)
	}
	inside := func(path string) bool {
		out := h.shell(fmt.Sprintf("test -e /proc/%d/root%s && echo there || true", p.Replicas[0].PID, path))
		return strings.Contains(out, "there")
	}
	for path, want := range map[string]bool{"/usr/bin/llama-server": true, "/usr/bin/env": false, "/etc/passwd": false,
		host.TinyModel: true, "/srv/images": false, "/run/systemd/private": false, "/run/pool-managerd/api.sock": false} {
		if inside(path) != want {
			h.t.Errorf("%s is in the engine's file system: %v", path, !want)
		}
	}
	out := h.must("systemd-analyze", "security", "--no-pager", host.EngineUnit("a"))
	m := overallExposure.FindStringSubmatch(out)
	if m == nil {
		h.t.Fatalf("systemd-analyze security:\n%s", out)
	}
	if rated, err := strconv.ParseFloat(m[1], 64); err != nil || rated > 1.5 {
		h.t.Errorf("exposed at %s:\n%s", m[1], out)
	}
	h.t.Logf("exposed at %s", m[1])
}

// completes has the engine complete a prompt.
func (h *site) completes(p host.Pool) {
	h.t.Helper()
	out := h.shell(`curl --silent --show-error --fail -d '{"prompt":"Hello","n_predict":4}' ` + p.Replicas[0].Endpoint + `/completion`)
	if !strings.Contains(out, `"content"`) {
		h.t.Errorf("the engine answered %.200s", out)
	}
}

func imageCrashes(h *site) {
	before := h.wait("a", isReady).Replicas[0].PID
	h.must("systemctl", "daemon-reload")
	h.must("systemctl", "kill", "-s", "KILL", host.EngineUnit("a"))
	p := h.wait("a", condition{"ready as another process", func(p host.Pool) bool {
		return isReady.holds(p) && p.Replicas[0].PID != before
	}})
	h.completes(p)
}

func imageAdopted(h *site) {
	before := h.wait("a", isReady)
	h.must("systemctl", "kill", "-s", "KILL", host.ManagerUnit)
	after := h.wait("a", isReady)
	if after.Replicas[0].PID != before.Replicas[0].PID || after.EngineVersion != before.EngineVersion {
		h.t.Errorf("process %d of %q, it was %d of %q", after.Replicas[0].PID, after.EngineVersion,
			before.Replicas[0].PID, before.EngineVersion)
	}
}

func imageReloaded(h *site) {
	before := h.wait("a", isReady).EngineVersion
	h.pool("a", inImage("acme/llama:2"))
	h.reload()
	p := h.wait("a", condition{"ready with another image, and the former engine gone", func(p host.Pool) bool {
		return isReady.holds(p) && p.EngineVersion != before && len(p.Replicas) == 1 && p.Replicas[0].Ready
	}})
	h.completes(p)
	out := h.must("poolctl", "models")
	if !strings.Contains(out, "image:"+imageRegistry+"/acme/llama") {
		h.t.Errorf("poolctl models:\n%s", out)
	}
	if _, err := h.Run(h.t.Context(), "poolctl", "models", "rm", "image:"+imageRegistry+"/acme/llama:2"); err == nil {
		h.t.Error("the image of a pool that runs was removed")
	}
}

func imagesRefused(h *site) {
	const none = "@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for id, c := range map[string]struct{ image, what string }{
		"b": {"acme/bad:1", "leads out of the image"},
		"c": {"acme/llama:none", "does not exist"},
		"d": {"acme/llama" + none, "does not exist"},
	} {
		h.pool(id, inImage(c.image))
		h.reload()
		p := h.wait(id, failsWith("PROVISION_FAILED"))
		if !strings.Contains(p.LastError, c.what) || p.Hint == "" {
			h.t.Errorf("%s: %s (%s)", c.image, p.LastError, p.Hint)
		}
		h.must("rm", host.PoolFile(id))
	}
	h.reload()
	if out := h.shell("ls /tmp/escaped /var/cache/pool-managerd/models/*/../escaped 2>/dev/null || true"); out != "" {
		h.t.Errorf("a layer wrote %s", out)
	}
	binary := inImage("acme/llama:2")
	binary.tables[len(binary.tables)-1] += "\nbinary = \"no-such-server\""
	h.pool("e", binary)
	h.reload()
	if p := h.wait("e", failsWith("PROVISION_FAILED")); !strings.Contains(p.LastError, "no program no-such-server") {
		h.t.Errorf("%s (%s)", p.LastError, p.Hint)
	}
	h.must("rm", host.PoolFile("e"))
	h.reload()
}

const imageCache = "/var/cache/pool-managerd/models"

// withoutImages removes pool a and all images, so that the next pool begins from nothing.
func (h *site) withoutImages() {
	h.must("rm", "-f", host.PoolFile("a"))
	h.reload()
	h.waitGone("a")
	h.shell("rm -rf " + imageCache + "/image--*")
}

// imageKilled: what a kill at any moment leaves is not an image, and the next attempt makes it.
func imageKilled(h *site) {
	h.withoutImages()
	h.pool("a", inImage("acme/llama:2"))
	h.reload()
	h.shell(`for pause in 0 0.1 0.3; do
		for i in $(seq 400); do
			unit=$(systemctl list-units --plain --no-legend --state=activating 'pool-fetch@image*' | cut -d' ' -f1)
			[ -z "$unit" ] || break; sleep 0.05
		done
		[ -n "$unit" ] || break
		sleep $pause; systemctl kill --signal=KILL "$unit" || true; sleep 0.5
	done`)
	h.completes(h.wait("a", isReady))
	out := h.shell("cd " + imageCache + " && ls -d image--*/snapshots/*.* image--*/blobs/* 2>/dev/null || true")
	if out != "" {
		h.t.Errorf("left in the cache: %s", out)
	}
}

// imageWithoutSpace: a disk that is too small for a download, and one that becomes full while it is
// unpacked, are named; nothing is left of what was unpacked.
func imageWithoutSpace(h *site) {
	h.withoutImages()
	h.shell("mount -t tmpfs -o size=8m,mode=0755 tmpfs " + imageCache + " && chown pool-fetch: " + imageCache)
	defer h.shell("umount --lazy " + imageCache)
	says := func(what string) condition {
		return condition{what, func(p host.Pool) bool { return strings.Contains(fmt.Sprintf("%+v", p), what) }}
	}
	h.pool("a", inImage("acme/large:1"))
	h.reload()
	h.wait("a", says("bytes more, and"))
	h.shell("mount -o remount,size=100m " + imageCache)
	h.wait("a", says("the cache is full"))
	out := h.shell("ls -d " + imageCache + "/image--*/snapshots/*/rootfs 2>/dev/null || true")
	if strings.Contains(out, "rootfs") {
		h.t.Errorf("left on the full disk: %s", out)
	}
	h.withoutImages()
}

const cdiFile = `{"cdiVersion": "0.5.0", "kind": "nvidia.com/gpu",
"devices": [{"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}],
"containerEdits": {"env": ["NVIDIA_VISIBLE_DEVICES=void"], "mounts": [
{"hostPath": "/srv/driver/libcuda.so.550.54.14", "containerPath": "/usr/lib/gpu/libcuda.so.550.54.14", "options": ["ro"]}],
"hooks": [{"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook",
"args": ["nvidia-cdi-hook", "create-symlinks", "--link", "libcuda.so.550.54.14::/usr/lib/gpu/libcuda.so.1"]}]}}`

// imageWithGPU: an engine in an image gets the nodes of its GPU, and the driver's files as the
// container device interface has them. Without, it is not started, and the hint has the command.
func imageWithGPU(h *site) {
	h.withoutImages()
	h.loadGPUs("--gpus 2 --vram 8589934592")
	h.shell("rm -rf /etc/cdi; mkdir -p /srv/driver; echo driver >/srv/driver/libcuda.so.550.54.14")
	defer h.shell("rm -rf /etc/cdi /srv/driver")
	g := inImage("acme/llama:1").with(`gpu_proof = "off"`)
	for i, key := range g.keys {
		if strings.HasPrefix(key, "devices") {
			g.keys[i] = "devices = [0]"
		}
	}
	h.pool("a", g)
	h.reload()
	p := h.wait("a", failsWith("PROVISION_FAILED"))
	if !strings.Contains(p.LastError, "nvidia.com/gpu") || !strings.Contains(p.Hint, "nvidia-ctk cdi generate") {
		h.t.Errorf("without a description: %s (%s)", p.LastError, p.Hint)
	}
	h.shell("mkdir -p /etc/cdi")
	h.write("/etc/cdi/nvidia.json", cdiFile)
	h.reload()
	p = h.wait("a", isReady)
	h.completes(p)
	root := fmt.Sprintf("/proc/%d/root", p.Replicas[0].PID)
	out := h.shell("cat "+root+"/usr/lib/gpu/libcuda.so.1; ls "+root+"/dev/nvidia0; tr '\\0' '\n' </proc/"+
		strconv.Itoa(p.Replicas[0].PID)+"/environ") + "\n" // any variable may be the last
	for _, want := range []string{"driver\n", "/dev/nvidia0", "\nLD_LIBRARY_PATH=/usr/lib/gpu\n", "CUDA_VISIBLE_DEVICES=GPU-",
		"NVIDIA_VISIBLE_DEVICES=void"} {
		if !strings.Contains(out, want) {
			h.t.Errorf("no %q in:\n%s", want, out)
		}
	}
	h.withoutImages()
}
