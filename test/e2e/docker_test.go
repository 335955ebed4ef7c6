//go:build machine

package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// readyForDocker gives a container machine a docker that it can run: without layers, which its
// file system cannot have, without a bridge, and with whole file systems of the kernel. The runtime
// (runc) and the control groups (scopes that it has PID 1 make) are those of Debian's package: runc
// loads a BPF program for each, and makes a keyring, which the machine permits.
const readyForDocker = `
	mkdir -p /etc/docker /run/whole/proc /run/whole/sys
	mount -t proc proc /run/whole/proc; mount -t sysfs sysfs /run/whole/sys
	echo '{"storage-driver": "vfs", "bridge": "none", "iptables": false, "ip6tables": false}' >/etc/docker/daemon.json
	systemctl stop docker.socket docker.service; systemctl reset-failed docker.service docker.socket || true`

const endOfDocker = `
	systemctl stop docker.socket docker.service containerd || true; umount /run/whole/proc /run/whole/sys || true
	rm -rf /run/whole /etc/docker /var/lib/docker`

// TestDocker: the real llama-server in an image that docker never pulled serves by docker, moved
// into the unit of its replica, and lives through what other engines live through.
func TestDocker(t *testing.T) {
	t.Parallel()
	if err := machine.LoadsBPF(); err != nil {
		t.Skipf("docker's runc loads a BPF program for each container, which this host does not let root do: %v", err)
	}
	layer := llamaLayer(t)
	h := lend(t, kind{release: machine.Trixie, backend: machine.Container, extra: "docker-cli,docker.io",
		calls: "bpf,keyctl"})
	defer h.serveEngine(layer)()
	h.shell(readyForDocker)
	defer h.shell(endOfDocker)
	h.write(host.ConfigFile, withImages)
	t.Run("denied_by_default", func(t *testing.T) { dockerDenied(h.in(t)) })
	h.write(host.ConfigFile, withImages+"policy.allow_docker = true\n"+
		"[defaults.limits]\nnofile = 1024\n") // systemd-nspawn lets no process raise it
	t.Run("without_its_daemon", func(t *testing.T) { dockerWithoutDaemon(h.in(t)) })
	if !t.Run("serves", func(t *testing.T) { dockerServes(h.in(t)) }) {
		return // the others would wait for it
	}
	t.Run("crash", func(t *testing.T) { containerCrashes(h.in(t)) })
	t.Run("client_killed", func(t *testing.T) { containerMonitorKilled(h.in(t)) })
	t.Run("over_the_managers_death", func(t *testing.T) { imageAdopted(h.in(t)) })
	t.Run("drain", func(t *testing.T) { containerDrains(h.in(t)) })
	t.Run("a_limit_of_the_running_engine", func(t *testing.T) { containerLimited(h.in(t), "docker") })
	t.Run("another_image", func(t *testing.T) { containerReloaded(h.in(t), "docker") })
	t.Run("docker_restarts", func(t *testing.T) { dockerRestarts(h.in(t)) })
	t.Run("refused", func(t *testing.T) { containerRefused(h.in(t), "docker") })
	t.Run("gpu", func(t *testing.T) { containerWithGPU(h.in(t), "docker") })
	t.Run("nothing_is_left", func(t *testing.T) {
		h := h.in(t)
		h.withoutImages()
		if out := strings.TrimSpace(h.must("docker", "ps", "--all", "--quiet")); out != "" {
			t.Errorf("containers: %s", out)
		}
	})
}

func dockerDenied(h *site) {
	h.pool("a", ranBy("docker", "acme/llama:1"))
	if h.Reload(h.t.Context()).Check() == nil {
		h.t.Error("a reload with a pool that policy refuses succeeds")
	}
	p := h.wait("a", inState("refused"), failsWith("POLICY_DENIED"))
	if !strings.Contains(p.Hint, "allow_docker = true") {
		h.t.Errorf("hint %q", p.Hint)
	}
}

// dockerWithoutDaemon: the hint is a command that helps.
func dockerWithoutDaemon(h *site) {
	h.reload()
	p := h.wait("a", failsWith("PROVISION_FAILED"))
	_, command, found := strings.Cut(p.Hint, "Start it: ")
	command, _, _ = strings.Cut(command, ", or set")
	if !found || !strings.Contains(p.LastError, "does not listen") {
		h.t.Fatalf("%s (%s)", p.LastError, p.Hint)
	}
	h.shell(command)
	is := h.shell("docker version --format '{{.Server.Version}}'; " +
		"docker info --format '{{.CgroupDriver}} {{.CgroupVersion}} {{.DefaultRuntime}}'; runc --version | head -n 1")
	if !strings.Contains(is, "\nsystemd 2 runc\n") {
		h.t.Errorf("docker is not as Debian's package has it: %s", is)
	}
	h.t.Log(is)
}

func dockerServes(h *site) {
	h.reload()
	p := h.wait("a", isReady)
	h.completes(p)
	if v := p.EngineVersion; !strings.Contains(v, "(sha256:") {
		h.t.Errorf("version %q", v)
	}
	at := fmt.Sprintf("/proc/%d", h.engineOf(p)) // in the unit's control group
	status := h.shell("cat " + at + "/status; grep ^Uid: /proc/" + fmt.Sprint(p.Replicas[0].PID) + "/status")
	for _, want := range []string{"Name:\tllama-server\n", "CapEff:\t0000000000000000\n", "CapBnd:\t0000000000000000\n",
		"NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Groups:\t"} {
		if !strings.Contains(status, want) {
			h.t.Errorf("no %q in its status:\n%s", want, status)
		}
	}
	var users []string
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); f[0] == "Uid:" {
			users = append(users, f[1])
		}
	}
	if len(users) != 2 || users[0] != users[1] || users[0] == "0" {
		h.t.Errorf("users of the engine and of docker's client: %v", users)
	}
	for path, want := range map[string]bool{"/usr/bin/llama-server": true, "/usr/bin/env": false, "/etc/shadow": false,
		host.TinyModel: true, "/srv/images": false, "/run/docker.sock": false, "/var/run/docker.sock": false,
		"/run/pool-managerd/api.sock": false} {
		out := h.shell("test -e " + at + "/root" + path + " && echo there || true")
		if strings.Contains(out, "there") != want {
			h.t.Errorf("%s is in the engine's file system: %v", path, !want)
		}
	}
	for line := range strings.Lines(h.shell("cat " + at + "/mountinfo")) {
		if f := strings.Fields(line); (f[4] == "/" || f[4] == "/usr") && !strings.HasPrefix(f[5], "ro") {
			h.t.Errorf("it can be written to: %s", line)
		}
	}
	if out := h.shell("cat " + at + "/net/dev | wc -l"); strings.TrimSpace(out) != "3" {
		h.t.Errorf("it has a network beside its own loopback: %s", h.shell("cat "+at+"/net/dev"))
	}
	images := strings.TrimSpace(h.must("docker", "images", "--format", "{{.Repository}}"))
	if images != "pool-managerd/empty" {
		h.t.Errorf("docker has images of its own: %s", images)
	}
	out := h.must("systemd-analyze", "security", "--no-pager", host.EngineUnit("a"))
	if m := overallExposure.FindStringSubmatch(out); m != nil {
		h.t.Logf("docker's client is exposed at %s", m[1])
	}
	h.t.Log(h.shell(fmt.Sprintf("grep VmRSS /proc/%d/status", p.Replicas[0].PID)))
	dockerMoved(h)
	out = h.shell("journalctl --no-pager POOL_ID=a -o cat | grep -c 'listening on' || true")
	if strings.TrimSpace(out) == "0" {
		h.t.Error("the engine's log does not have the fields of its unit")
	}
}

// dockerMoved: docker made a scope for the container, in which nothing is left, so that PID 1 has
// removed it; engine and client are in the unit.
func dockerMoved(h *site) {
	if out := h.shell("journalctl --no-pager --boot -o cat --grep 'Started docker-.*scope'"); out == "" {
		h.t.Error("docker made no scope")
	}
	if out := h.shell("systemctl list-units --all --plain --no-legend 'docker-*.scope'"); out != "" {
		h.t.Errorf("docker's scope is still there: %s", out)
	}
	group := "/sys/fs/cgroup$(systemctl show -P ControlGroup '" + host.EngineUnit("a") + "')"
	out := h.shell("cd " + group + "; for p in $(cat cgroup.procs); do cat /proc/$p/comm; done | sort")
	if out != "docker\nllama-server" {
		h.t.Errorf("in the unit's control group: %q", out)
	}
}

// dockerRestarts: a container ends with its daemon, and its unit starts it again.
func dockerRestarts(h *site) {
	p := h.wait("a", isReady)
	h.must("systemctl", "restart", "docker")
	h.completes(h.wait("a", newProcess(p.Replicas[0].PID)))
}
