//go:build machine

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestFieldCase12: /dev/nvidia-uvm appears long after the start, as where nothing loads that module
// at boot. The pool waits with the command to run, fails no start, and is ready within seconds of
// the node; one whose mode is wrong likewise.
func TestFieldCase12(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := withGPUs(t, release)
			h.shell("[ -c /dev/nvidiactl ] && rm -f /dev/nvidia-uvm")
			h.pool("a", onGPU("0", gib))
			h.reload()
			p := h.wait("a", inState("waiting"), failsWith("GPU_UNAVAILABLE"))
			if !strings.Contains(p.LastError, "/dev/nvidia-uvm does not exist") ||
				!strings.Contains(p.Hint, "nvidia-modprobe -u -c0") {
				t.Errorf("waiting for the node: %s", p)
			}
			if out := h.must("poolctl", "status", "a"); !strings.Contains(out, "nvidia-modprobe -u -c0") {
				t.Errorf("poolctl status:\n%s", out)
			}
			h.shell("mknod -m 600 /dev/nvidia-uvm c 511 0")
			h.wait("a", inState("waiting"), condition{"the mode", func(p host.Pool) bool {
				return strings.Contains(p.LastError, "mode 0600")
			}})
			began := time.Now()
			h.shell("chmod 666 /dev/nvidia-uvm")
			p = h.wait("a", isReady)
			if took := time.Since(began); took > 20*time.Second || p.RestartCount != 0 || p.LastError != "" {
				t.Errorf("ready after %s with %d restarts: %s", took, p.RestartCount, p)
			}
			h.shell("rm -f /dev/nvidia-uvm")
			time.Sleep(5 * time.Second)
			if again := h.wait("a", isReady); again.Replicas[0].PID != p.Replicas[0].PID {
				t.Errorf("an engine that had its node open was restarted: %s", again)
			}
		})
	}
}
