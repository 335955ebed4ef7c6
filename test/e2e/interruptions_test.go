//go:build machine

package e2e

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// inRun is a pool whose first replica is in that run, and in no other.
func inRun(p host.Process) condition {
	return condition{fmt.Sprintf("still process %d", p.PID), func(now host.Pool) bool {
		return len(now.Replicas) > 0 && now.Replicas[0].PID == p.PID && now.Replicas[0].InvocationID == p.Invocation
	}}
}

// TestInterruptions: any request in the middle of a load, a crash or a stop ends in what the
// files ask for.
func TestInterruptions(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)

	t.Run("the_manager_is_killed_during_a_load", func(t *testing.T) {
		h := h.in(t)
		h.pool("load", stub("--load", "4s").quick())
		h.reload()
		h.wait("load", inState("starting"), executed)
		loading := h.engine("load")
		h.must("systemctl", "kill", "--kill-whom=main", "--signal=KILL", host.ManagerUnit)
		h.wait("load", isReady, inRun(loading))
	})
	t.Run("the_manager_is_stopped_and_the_load_ends_without_it", func(t *testing.T) {
		h := h.in(t)
		h.pool("alone", stub("--load", "2s").quick())
		h.reload()
		h.wait("alone", inState("starting"), executed)
		loading := h.engine("alone")
		h.must("systemctl", "stop", "pool-managerd.socket", host.ManagerUnit)
		h.eventually(func(ctx context.Context) error {
			u, err := h.Unit(ctx, host.EngineUnit("alone"))
			if err == nil && u.ActiveState != "active" {
				err = fmt.Errorf("its gate has not passed: %+v", u)
			}
			return err
		})
		h.must("systemctl", "start", "pool-managerd.socket", host.ManagerUnit)
		h.wait("alone", isReady, inRun(loading))
	})
	t.Run("the_file_is_changed_during_a_load", func(t *testing.T) {
		h := h.in(t)
		h.pool("changed", stub("--load", "1h").quick())
		h.reload()
		h.wait("changed", inState("starting"))
		h.pool("changed", stub("--load", "100ms").quick())
		h.reload()
		h.wait("changed", isReady)
	})
	t.Run("the_file_is_removed_during_a_load", func(t *testing.T) {
		h := h.in(t)
		h.pool("gone", stub("--load", "1h").quick())
		h.reload()
		h.wait("gone", inState("starting"))
		h.removePool("gone")
		h.reload()
		h.waitGone("gone")
	})
	t.Run("the_file_is_removed_in_backoff", func(t *testing.T) {
		h := h.in(t)
		h.pool("backoff", stub().table("restart", `initial = "30s"`, `jitter = 0.0`))
		h.reload()
		h.wait("backoff", isReady)
		h.control("backoff", "/stub/crash")
		h.wait("backoff", inState("backoff"))
		h.removePool("backoff")
		h.reload()
		h.waitGone("backoff")
	})
	t.Run("the_file_is_changed_in_backoff", func(t *testing.T) {
		h := h.in(t)
		h.pool("fixed", stub("--crash-after", "0s").table("restart", `initial = "30s"`, `jitter = 0.0`))
		h.reload()
		h.wait("fixed", inState("backoff"))
		h.pool("fixed", stub().table("restart", `initial = "30s"`, `jitter = 0.0`))
		h.reload()
		h.wait("fixed", isReady)
	})
	t.Run("the_file_comes_back_during_the_drain", func(t *testing.T) {
		h := h.in(t)
		h.pool("wanted", stub().with("slots = 1").quick())
		h.reload()
		endpoint := h.wait("wanted", isReady).Replicas[0].Endpoint
		run := h.engine("wanted")
		done := make(chan error, 1)
		go func() {
			ctx, cancel := h.within()
			defer cancel()
			_, err := h.AtEndpoint(ctx, endpoint, "POST", "/v1/completions?delay=4s", nil)
			done <- err
		}()
		h.eventually(func(ctx context.Context) error {
			a, err := h.AtEndpoint(ctx, endpoint, "GET", "/slots", nil)
			if err == nil && !containsTrue(a.Body) {
				err = fmt.Errorf("no slot is busy: %s", a.Body)
			}
			return err
		})
		h.removePool("wanted")
		h.reload()
		h.wait("wanted", inState("draining"))
		h.pool("wanted", stub().with("slots = 1").quick())
		h.reload()
		h.wait("wanted", isReady, inRun(run))
		if err := <-done; err != nil {
			t.Errorf("the request that was under way: %v", err)
		}
		h.wait("wanted", isReady, inRun(run))
	})
	t.Run("many_reloads_in_a_row", func(t *testing.T) {
		h := h.in(t)
		for i := range 8 {
			h.pool("flapping", stub().with(fmt.Sprintf(`env = { N = "%d" }`, i)).quick())
			h.reload()
		}
		h.wait("flapping", isReady)
		h.eventually(func(ctx context.Context) error {
			p, err := h.Host.Pool(ctx, "flapping")
			if err != nil || len(p.Replicas) != 1 {
				return fmt.Errorf("%d replicas: %w", len(p.Replicas), errors.Join(err, errReloading))
			}
			out, err := h.Host.Run(ctx, "systemctl", "show", "-p", "Environment", "--value", p.Replicas[0].Unit)
			if err == nil && !strings.Contains(out, "N=7") {
				err = fmt.Errorf("the last version does not run: %s", out)
			}
			return err
		})
	})
}

// errReloading means that a reload is not complete.
var errReloading = errors.New("both engines of a reload are there")

// TestSystemctlOnEngines: an administrator's systemctl is obeyed: a stopped engine stays stopped, a
// started one is taken up again, a restarted one too.
func TestSystemctlOnEngines(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().quick())
	h.pool("b", stub().table("health", `interval = "500ms"`, `timeout = "500ms"`, `failures = 2`, `escalate_after = "5s"`).
		table("restart", `initial = "300ms"`))
	h.reload()
	h.wait("a", isReady)
	h.wait("b", isReady)
	unit := host.EngineUnit("a")

	h.must("systemctl", "stop", unit)
	h.wait("a", inState("stopped"))
	h.handedOff("a", false)
	h.reload()
	h.wait("a", inState("stopped"))
	h.must("systemctl", "start", unit)
	h.wait("a", isReady)
	before := h.engine("a")
	h.must("systemctl", "restart", unit)
	h.wait("a", isReady, condition{"a new process", func(p host.Pool) bool {
		return p.Replicas[0].InvocationID != before.Invocation
	}})
	// One that was frozen is drained as any, and one that is frozen for long is left so.
	h.must("systemctl", "freeze", unit)
	h.must("poolctl", "drain", "a", "--deadline", "1s")
	h.wait("a", inState("stopped"))
	h.must("poolctl", "resume", "a")
	h.wait("a", isReady)
	frozen := h.engine("b")
	h.must("systemctl", "freeze", host.EngineUnit("b"))
	h.wait("b", inState("unhealthy"), says("its unit is frozen"))
	time.Sleep(8 * time.Second) // longer than escalate_after
	h.must("systemctl", "thaw", host.EngineUnit("b"))
	h.wait("b", isReady, inRun(frozen))
	h.must("systemctl", "stop", unit)
	h.wait("a", inState("stopped"))
	h.pool("a", stub().with(`env = { NEW = "1" }`).quick())
	h.reload()
	h.wait("a", isReady)
	h.wait("b", isReady)
}

// TestReplicas: a pool of several replicas has a unit, a port and a hand-off file for each; one
// that dies takes no other with it, and fewer replicas stop only those that are too many.
func TestReplicas(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	three := func(n int) poolFile {
		masks := strings.TrimSuffix(strings.Repeat("[], ", n), ", ")
		return poolFile{
			keys: []string{`engine = "llamacpp"`, `model = "file:` + host.TinyModel + `"`,
				fmt.Sprintf("replicas = %d", n), "devices = [" + masks + "]", "port = 22500"},
			tables: []string{"[provisioning]\nbinary = \"" + host.StubEngine + "\""},
		}.quick()
	}
	readyReplicas := func(n int) condition {
		return condition{fmt.Sprintf("%d ready replicas", n), func(p host.Pool) bool {
			for _, r := range p.Replicas {
				if !r.Ready {
					return false
				}
			}
			return p.Ready && len(p.Replicas) == n
		}}
	}
	h.pool("many", three(3))
	h.reload()
	p := h.wait("many", readyReplicas(3))
	for i, r := range p.Replicas {
		if want := fmt.Sprintf("http://127.0.0.1:%d", 22500+i); r.Endpoint != want {
			t.Errorf("%s listens at %s, want %s", r.ID, r.Endpoint, want)
		}
	}
	if files := h.must("ls", host.HandoffDir); strings.Join(strings.Fields(files),
		" ") != "many.r0.json many.r1.json many.r2.json" {
		t.Errorf("hand-off files: %s", files)
	}
	before := h.engines()
	h.must("kill", "-KILL", fmt.Sprint(p.Replicas[1].PID))
	h.wait("many", condition{"ready with one replica less", func(p host.Pool) bool {
		return p.Ready && !p.Replicas[1].Ready
	}})
	h.wait("many", readyReplicas(3))
	h.pool("many", three(2))
	h.reload()
	h.wait("many", readyReplicas(2))
	first := "pool-engine@many.r0.service"
	h.untouched(map[string]host.Process{first: before[first]})
	if running := h.engines(); len(running) != 2 {
		t.Errorf("still running: %v", running)
	}
}

// TestPoolctlHelps: without a daemon, poolctl prints what is wrong and what to do; an ordinary user
// may look.
func TestPoolctlHelps(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", command().quick())
	h.reload()
	h.wait("a", isReady)

	if out := h.must("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "poolctl",
		"list"); !strings.Contains(out, "ready") {
		t.Errorf("an ordinary user sees:\n%s", out)
	}
	fails := func(says string, args ...string) {
		t.Helper()
		ctx, cancel := h.within()
		defer cancel()
		r := h.M.Run(ctx, args...)
		if r.Err != nil || r.ExitCode == 0 || !strings.Contains(r.Stderr, says) {
			t.Errorf("%v: exit code %d, %q; want a failure with %q (%v)", args, r.ExitCode, r.Stderr, says, r.Err)
		}
	}
	fails("none", "poolctl", "status", "none")
	h.must("systemctl", "stop", "pool-managerd.socket", host.ManagerUnit)
	fails("systemctl status pool-managerd", "poolctl", "list")
	h.must("systemctl", "start", "pool-managerd.socket", host.ManagerUnit)
	h.must("chmod", "0600", host.Socket)
	fails("group pool-managerd", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "poolctl", "list")
}
