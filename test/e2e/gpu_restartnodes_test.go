//go:build machine

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestRestartWithoutItsNode: /dev/nvidia-uvm is gone when PID 1 restarts an engine by itself, with
// the manager and without it. The step before the engine ends the start, so that no engine loads on
// the CPU; once the manager is there the pool waits, no failure opens its breaker, and it is ready
// within seconds of the node.
func TestRestartWithoutItsNode(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := withGPUs(t, release)
			h.shell("[ -c /dev/nvidia-uvm ]")
			h.pool("a", onGPU("0", gib))
			h.reload()
			first := h.wait("a", isReady)
			unit := "pool-engine@a.r0.service"

			h.shell("rm -f /dev/nvidia-uvm && systemctl kill -s KILL --kill-whom=main " + unit)
			p := h.wait("a", inState("waiting"), failsWith("GPU_UNAVAILABLE"))
			if !strings.Contains(p.Hint, "nvidia-modprobe -u -c0") {
				t.Errorf("waiting for the node: %s", p)
			}
			h.shell("mknod -m 666 /dev/nvidia-uvm c 511 0")
			began := time.Now()
			second := h.wait("a", isReady)
			if took := time.Since(began); took > 30*time.Second || second.Replicas[0].PID == first.Replicas[0].PID {
				t.Errorf("ready after %s: %s", took, second)
			}

			ended := "journalctl -o cat -u " + unit + " | grep -c 'device node /dev/nvidia-uvm does not exist'"
			seen := strings.TrimSpace(h.shell(ended))
			h.shell("systemctl stop pool-managerd-admin.socket pool-managerd.socket pool-managerd.service; " +
				"rm -f /dev/nvidia-uvm; systemctl kill -s KILL --kill-whom=main " + unit)
			h.eventually(func(ctx context.Context) error {
				_, err := h.Shell(ctx, "[ $("+ended+") -gt "+seen+" ]")
				return err
			})
			h.shell("systemctl start pool-managerd-admin.socket pool-managerd.socket pool-managerd.service")
			h.wait("a", inState("waiting"), failsWith("GPU_UNAVAILABLE"))
			h.shell("mknod -m 666 /dev/nvidia-uvm c 511 0")
			if p = h.wait("a", isReady); p.Breaker != "closed" {
				t.Errorf("ready again: %s", p)
			}
		})
	}
}
