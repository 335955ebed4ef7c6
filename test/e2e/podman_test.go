//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// podmanPackages are what a host with podman has.
const podmanPackages = "crun,podman"

// readyForPodman gives a container machine what a host has by itself: a file system for podman's
// storage, whole file systems of the kernel, which crun must see to mount its own in a user
// namespace, and no use of the keyring, whose calls systemd-nspawn refuses.
const readyForPodman = `
	mkdir -p /var/lib/containers /etc/containers /run/whole/proc /run/whole/sys
	mount -t tmpfs tmpfs /var/lib/containers
	mount -t proc proc /run/whole/proc; mount -t sysfs sysfs /run/whole/sys
	printf '[containers]\nkeyring = false\n' >/etc/containers/containers.conf`

const endOfPodman = `
	umount /run/whole/proc /run/whole/sys /var/lib/containers || true
	rm -rf /run/whole /etc/containers/containers.conf; userdel containers || true
	sed -i /^containers:/d /etc/subuid /etc/subgid`

// ranBy is a pool whose engine podman or docker runs.
func ranBy(by, image string) poolFile {
	p := inImage(image)
	p.tables[len(p.tables)-1] += "\nruntime = \"" + by + "\""
	return p
}

func byPodman(image string) poolFile { return ranBy("podman", image) }

// TestPodman: the real llama-server in an image that was never in podman's own store serves by
// podman, in the unit of its replica, and lives through what other engines live through.
func TestPodman(t *testing.T) {
	t.Parallel()
	layer := llamaLayer(t)
	for _, release := range []machine.Release{machine.Trixie, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := lend(t, kind{release: release, backend: machine.Container, extra: podmanPackages})
			defer h.serveEngine(layer)()
			h.shell(readyForPodman)
			defer h.shell(endOfPodman)
			t.Log(h.shell("podman --version; crun --version | head -n 1; conmon --version | head -n 1"))
			h.write(host.ConfigFile, withImages)
			t.Run("without_user_ids", func(t *testing.T) { podmanWithoutIDs(h.in(t)) })
			if !t.Run("serves", func(t *testing.T) { podmanServes(h.in(t)) }) {
				return // the others would wait for it
			}
			t.Run("crash", func(t *testing.T) { containerCrashes(h.in(t)) })
			t.Run("monitor_killed", func(t *testing.T) { containerMonitorKilled(h.in(t)) })
			t.Run("over_the_managers_death", func(t *testing.T) { imageAdopted(h.in(t)) })
			t.Run("drain", func(t *testing.T) { containerDrains(h.in(t)) })
			t.Run("a_limit_of_the_running_engine", func(t *testing.T) { containerLimited(h.in(t), "podman") })
			t.Run("another_image", func(t *testing.T) { containerReloaded(h.in(t), "podman") })
			t.Run("refused", func(t *testing.T) { containerRefused(h.in(t), "podman") })
			t.Run("gpu", func(t *testing.T) { containerWithGPU(h.in(t), "podman") })
			t.Run("nothing_is_left", func(t *testing.T) {
				h := h.in(t)
				h.withoutImages()
				if out := strings.TrimSpace(h.must("podman", "ps", "--all", "--quiet")); out != "" {
					t.Errorf("containers: %s", out)
				}
			})
		})
	}
}

// podmanWithoutIDs: the hint is a command that helps.
func podmanWithoutIDs(h *site) {
	h.pool("a", byPodman("acme/llama:1"))
	h.reload()
	p := h.wait("a", failsWith("PROVISION_FAILED"))
	_, command, found := strings.Cut(p.Hint, "Give it some: ")
	command, _, _ = strings.Cut(command, ", or set")
	if !found || !strings.Contains(p.LastError, "no user ids") {
		h.t.Fatalf("%s (%s)", p.LastError, p.Hint)
	}
	h.shell(command)
}

// engineOf is the process of the engine itself, which is in the unit beside podman's monitor or
// docker's client.
func (h *site) engineOf(p host.Pool) int {
	h.t.Helper()
	out := strings.TrimSpace(h.shell("for p in $(cat /sys/fs/cgroup$(systemctl show -P ControlGroup '" +
		host.EngineUnit(p.ID) + "')/cgroup.procs); do " +
		"[ \"$(cat /proc/$p/comm)\" = llama-server ] && echo $p || true; done"))
	pid, err := strconv.Atoi(out)
	if err != nil {
		h.t.Fatalf("engines in the unit: %q", out)
	}
	return pid
}

func podmanServes(h *site) {
	h.reload()
	p := h.wait("a", isReady)
	h.completes(p)
	if v := p.EngineVersion; !strings.Contains(v, "(sha256:") {
		h.t.Errorf("version %q", v)
	}
	pid := h.engineOf(p)
	at := fmt.Sprintf("/proc/%d", pid)
	status := h.shell("cat " + at + "/status")
	for _, want := range []string{"Name:\tllama-server\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n",
		"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Uid:\t21474"} {
		if !strings.Contains(status, want) {
			h.t.Errorf("no %q in its status:\n%s", want, status)
		}
	}
	if out := h.shell("cat " + at + "/cgroup"); !strings.Contains(out, host.EngineUnit("a")) {
		h.t.Errorf("its control group: %s", out)
	}
	for path, want := range map[string]bool{"/usr/bin/llama-server": true, "/usr/bin/env": false, "/etc/shadow": false,
		host.TinyModel: true, "/srv/images": false, "/run/podman": false, "/run/pool-managerd/api.sock": false} {
		out := h.shell("test -e " + at + "/root" + path + " && echo there || true")
		if strings.Contains(out, "there") != want {
			h.t.Errorf("%s is in the engine's file system: %v", path, !want)
		}
	}
	mounts := h.shell("cat " + at + "/mountinfo")
	for line := range strings.Lines(mounts) {
		if f := strings.Fields(line); f[4] == "/" && !strings.HasPrefix(f[5], "ro,") {
			h.t.Errorf("its root can be written to: %s", line)
		}
	}
	if out := h.must("podman", "images", "--quiet"); strings.TrimSpace(out) != "" {
		h.t.Errorf("podman has images of its own: %s", out)
	}
	out := h.must("systemd-analyze", "security", "--no-pager", host.EngineUnit("a"))
	if m := overallExposure.FindStringSubmatch(out); m != nil {
		h.t.Logf("exposed at %s", m[1])
	}
	h.t.Log(h.shell(fmt.Sprintf("grep VmRSS /proc/%d/status", p.Replicas[0].PID)))
	out = h.shell("journalctl --no-pager POOL_ID=a -o cat | grep -c 'listening on http' || true")
	if strings.TrimSpace(out) == "0" {
		h.t.Error("the engine's log does not have the fields of its unit")
	}
}

// newProcess: ready, with another monitor.
func newProcess(before int) condition {
	return condition{"ready as another process", func(p host.Pool) bool {
		return isReady.holds(p) && p.Replicas[0].PID != before
	}}
}

// containerCrashes: the signal that ended the engine is reported as such, though it arrives as a
// status of the monitor. As process 1 of its namespace it does not take others from outside, such
// as SIGSEGV.
func containerCrashes(h *site) {
	p := h.wait("a", isReady)
	h.must("systemctl", "daemon-reload")
	h.shell(fmt.Sprintf("kill -KILL %d", h.engineOf(p)))
	crashed := h.wait("a", failsWith("ENGINE_CRASHED"))
	if !strings.Contains(crashed.LastError, "SIGKILL") {
		h.t.Errorf("the crash is reported as %q", crashed.LastError)
	}
	h.completes(h.wait("a", newProcess(p.Replicas[0].PID)))
}

// containerMonitorKilled: without podman's monitor or docker's client an engine does not stay.
func containerMonitorKilled(h *site) {
	p := h.wait("a", isReady)
	engine := h.engineOf(p)
	h.shell(fmt.Sprintf("kill -KILL %d", p.Replicas[0].PID))
	h.completes(h.wait("a", newProcess(p.Replicas[0].PID)))
	if out := h.shell(fmt.Sprintf("test -d /proc/%d && echo there || true", engine)); out != "" {
		h.t.Error("the engine outlived its monitor and the next start")
	}
}

func containerDrains(h *site) {
	p := h.wait("a", isReady)
	h.must("poolctl", "drain", "a", "--deadline", "20s", "--wait")
	h.shell(fmt.Sprintf("! test -d /proc/%d", p.Replicas[0].PID))
	out := h.must("systemctl", "show", "-p", "Result", "--value", host.EngineUnit("a"))
	if strings.TrimSpace(out) != "success" {
		h.t.Errorf("the stop's result is %s", out)
	}
	h.must("poolctl", "resume", "a")
	h.completes(h.wait("a", isReady))
}

// containerLimited: a limit reaches the running engine, since its control group is the unit's.
func containerLimited(h *site, by string) {
	before := h.wait("a", isReady).Replicas[0].PID
	limited := ranBy(by, "acme/llama:1").table("limits", "tasks_max = 777")
	h.pool("a", limited)
	h.reload()
	h.eventually(func(ctx context.Context) error {
		out, err := h.Run(ctx, "systemctl", "show", "-p", "TasksMax", "--value", host.EngineUnit("a"))
		if err == nil && strings.TrimSpace(out) != "777" {
			err = fmt.Errorf("TasksMax=%s", out)
		}
		return err
	})
	if now := h.wait("a", isReady).Replicas[0].PID; now != before {
		h.t.Errorf("process %d, it was %d", now, before)
	}
}

func containerReloaded(h *site, by string) {
	before := h.wait("a", isReady).EngineVersion
	h.pool("a", ranBy(by, "acme/llama:2"))
	h.reload()
	p := h.wait("a", condition{"ready with another image, and the former engine gone", func(p host.Pool) bool {
		return isReady.holds(p) && p.EngineVersion != before && len(p.Replicas) == 1 && p.Replicas[0].Ready
	}})
	h.completes(p)
	out := h.must(by, "ps", "--quiet")
	if n := len(strings.Fields(out)); n != 1 {
		h.t.Errorf("%d containers: %s", n, out)
	}
}

func containerRefused(h *site, by string) {
	const none = "@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	for id, c := range map[string]struct{ image, what string }{
		"b": {"acme/bad:1", "leads out of the image"},
		"c": {"acme/llama:none", "does not exist"},
		"d": {"acme/llama" + none, "does not exist"},
	} {
		h.pool(id, ranBy(by, c.image))
		h.reload()
		p := h.wait(id, failsWith("PROVISION_FAILED"))
		if !strings.Contains(p.LastError, c.what) || p.Hint == "" {
			h.t.Errorf("%s: %s (%s)", c.image, p.LastError, p.Hint)
		}
		h.must("rm", host.PoolFile(id))
	}
	h.reload()
}

// containerWithGPU: without a description of the GPUs the engine is not started; with one it has
// the node of its GPU and the driver's files, where the description has them, and no hook is
// executed.
func containerWithGPU(h *site, by string) {
	h.loadGPUs("--gpus 2 --vram 8589934592")
	h.shell("rm -rf /etc/cdi; mkdir -p /srv/driver; echo driver >/srv/driver/libcuda.so.550.54.14")
	defer h.shell("rm -rf /etc/cdi /srv/driver")
	g := ranBy(by, "acme/llama:2").with(`gpu_proof = "off"`)
	for i, key := range g.keys {
		if strings.HasPrefix(key, "devices") {
			g.keys[i] = "devices = [0]"
		}
	}
	h.pool("g", g)
	h.reload()
	p := h.wait("g", failsWith("PROVISION_FAILED"))
	if !strings.Contains(p.LastError, "nvidia.com/gpu") || !strings.Contains(p.Hint, "nvidia-ctk cdi generate") {
		h.t.Errorf("%s (%s)", p.LastError, p.Hint)
	}
	h.shell("mkdir -p /etc/cdi")
	h.write("/etc/cdi/nvidia.json", cdiFile)
	h.reload()
	p = h.wait("g", isReady)
	h.completes(p)
	at := fmt.Sprintf("/proc/%d", h.engineOf(p))
	out := h.shell("cat "+at+"/root/usr/lib/gpu/libcuda.so.1; ls "+at+"/root/dev; "+
		"tr '\\0' '\n' <"+at+"/environ") + "\n" // any variable may be the last
	for _, want := range []string{"driver\n", "\nnvidia0\n", "\nnvidiactl\n", "\nLD_LIBRARY_PATH=/usr/lib/gpu\n",
		"CUDA_VISIBLE_DEVICES=GPU-", "NVIDIA_VISIBLE_DEVICES=void"} {
		if !strings.Contains(out, want) {
			h.t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\nnvidia1\n") {
		h.t.Errorf("it has the node of another GPU:\n%s", out)
	}
	h.must("rm", host.PoolFile("g"))
	h.reload()
	h.waitGone("g")
}
