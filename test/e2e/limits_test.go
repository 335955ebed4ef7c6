//go:build machine

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestLimitsAreReal runs in a virtual machine, where a limit has its controller and a packet its
// filter: in a container these promises would pass without meaning anything.
func TestLimitsAreReal(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.VM})
	h.M.Require(t, machine.Controllers("cpu", "io", "memory", "pids"), machine.BPF())
	h.pool("a", stub().quick().table("limits", `memory_max = "128M"`, `tasks_max = 200`))
	h.reload()
	h.wait("a", isReady)
	cgroup := h.must("systemctl", "show", "-p", "ControlGroup", "--value", host.EngineUnit("a"))
	limit := func(file string) string { return h.must("cat", "/sys/fs/cgroup"+cgroup+"/"+file) }

	t.Run("limits_reach_the_kernel", func(t *testing.T) {
		if got := limit("memory.max"); got != fmt.Sprint(128<<20) {
			t.Errorf("memory.max is %s", got)
		}
		if got := limit("pids.max"); got != "200" {
			t.Errorf("pids.max is %s", got)
		}
	})
	t.Run("its_memory_is_a_metric", func(t *testing.T) {
		h := h.in(t)
		if got := h.engineMetric("engine_memory_bytes", "a"); got < 1<<20 || got > 128<<20 {
			t.Errorf("engine_memory_bytes is %v", got)
		}
		if got := h.engineMetric("engine_memory_pressure_ratio", "a"); got < 0 || got > 1 {
			t.Errorf("engine_memory_pressure_ratio is %v", got)
		}
		if got := h.engineMetric("engine_oom_kills_total", "a"); got != 0 {
			t.Errorf("engine_oom_kills_total is %v", got)
		}
	})
	t.Run("changed_limits_apply_to_the_running_engine", func(t *testing.T) {
		h := h.in(t)
		before := h.engines()
		h.pool("a", stub().quick().table("limits", `memory_max = "96M"`, `memory_high = "80M"`, `tasks_max = 300`,
			`cpu_weight = 50`))
		h.reload()
		h.kernelSays(cgroup+"/memory.max", fmt.Sprint(96<<20))
		h.kernelSays(cgroup+"/memory.high", fmt.Sprint(80<<20))
		h.kernelSays(cgroup+"/pids.max", "300")
		h.kernelSays(cgroup+"/cpu.weight", "50")
		h.untouched(before)
		t.Run("and_survive_a_restart_of_the_manager", func(t *testing.T) {
			h := h.in(t)
			h.must("systemctl", "restart", host.ManagerUnit)
			h.wait("a", isReady)
			h.kernelSays(cgroup+"/memory.max", fmt.Sprint(96<<20))
			h.untouched(before)
		})
		t.Run("and_can_be_taken_away", func(t *testing.T) {
			h := h.in(t)
			h.pool("a", stub().quick().table("limits", `memory_max = "96M"`))
			h.reload()
			h.kernelSays(cgroup+"/memory.high", "max")
			h.kernelSays(cgroup+"/memory.max", fmt.Sprint(96<<20))
			h.untouched(before)
		})
	})
	t.Run("memory_max_kills_and_is_told", func(t *testing.T) {
		h := h.in(t)
		h.pool("greedy", stub().table("health", `interval = "500ms"`, `timeout = "500ms"`).table("restart",
			`initial = "20s"`, `jitter = 0.0`).table("limits", `memory_max = "64M"`))
		h.reload()
		h.wait("greedy", isReady)
		h.control("greedy", "/stub/alloc?bytes=268435456")
		p := h.wait("greedy", failsWith("ENGINE_OOM"))
		if !strings.Contains(p.Hint, "memory_max") {
			t.Errorf("the hint does not name memory_max: %s", p)
		}
		h.eventually(func(ctx context.Context) error {
			if n, err := h.engineMetricNow(ctx, "engine_oom_kills_total", "greedy"); err != nil || n != 1 {
				return fmt.Errorf("engine_oom_kills_total is %v (%v)", n, err)
			}
			return nil
		})
		h.wait("a", isReady)
	})
	t.Run("a_slow_load_that_reads_is_not_failed", func(t *testing.T) {
		h := h.in(t)
		h.pool("reads", stub("--load", "8s", "--load-mode", "io").stallAfter2s())
		h.reload()
		h.wait("reads", restarted(0))
	})
	t.Run("only_the_loopback_is_reached", func(t *testing.T) { fenced(t, h.in(t)) })
}

// kernelSays waits until a file of the cgroup hierarchy has that content.
func (s *site) kernelSays(file, want string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		got, err := s.Host.Run(ctx, "cat", "/sys/fs/cgroup"+file)
		if err == nil && strings.TrimSpace(got) != want {
			err = fmt.Errorf("%s is %s, want %s", file, strings.TrimSpace(got), want)
		}
		return err
	})
}

// fenced tries connections from inside the engine, each tried from outside of the fence as well.
func fenced(t *testing.T, h *site) {
	// An address of this machine outside of 127.0.0.0/8, with a listener behind it: the fence goes
	// by addresses.
	h.shell(`ip addr add 10.9.8.7/32 dev lo
		systemd-run --quiet --unit=test-outside ` + host.StubEngine + ` --host 10.9.8.7 --port 8080
		systemd-run --quiet --unit=test-inside ` + host.StubEngine + ` --host 127.0.0.1 --port 8080`)
	h.eventually(func(ctx context.Context) error {
		_, err := h.Host.Run(ctx, "curl", "-sS", "--fail", "http://10.9.8.7:8080/health",
			"http://127.0.0.1:8080/health")
		return err
	})
	for _, c := range []struct {
		network, address string
		passes           bool
	}{
		{"tcp", "127.0.0.1:8080", true},
		{"udp", "127.0.0.1:9", true},
		{"tcp", "10.9.8.7:8080", false},
		{"udp", "10.9.8.7:9", false},
	} {
		t.Run(c.network+"_"+c.address, func(t *testing.T) {
			h := h.in(t)
			ctx, cancel := h.within()
			defer cancel()
			a, err := h.Engine(ctx, "a", http.MethodPost, "/stub/dial?network="+c.network+"&address="+c.address, nil)
			if err != nil {
				t.Fatal(err)
			}
			got := string(a.Body)
			// A datagram that is filtered fails at once; of a connection, some kernels only drop
			// the packets.
			fenced := strings.Contains(got, "operation not permitted") || strings.Contains(got, "timeout")
			if c.passes && !strings.Contains(got, "connected") || !c.passes && !fenced {
				t.Errorf("%s %s: %s", c.network, c.address, got)
			}
		})
	}
}
