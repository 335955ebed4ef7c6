//go:build machine

package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestStraySIGTERM: an engine that someone ends by SIGTERM is started again, unless its pool's file
// says that this is a stop: then what callers get is true, that it does not start by itself.
// restart_count is a total over a stop and a resume.
func TestStraySIGTERM(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().table("restart", `initial = "300ms"`, `on_exit = "stop"`))
	h.pool("again", stub().quick())
	h.reload()
	h.wait("a", isReady)
	h.control("a", "/stub/crash")
	h.wait("a", restarted(1))
	h.must("kill", "-TERM", fmt.Sprint(h.engine("a").PID))
	h.wait("a", inState("stopped"), failsWith("ENGINE_EXITED"))
	h.wait("again", isReady)
	h.must("kill", "-TERM", fmt.Sprint(h.engine("again").PID))
	h.wait("again", restarted(1))
	h.must("systemctl", "stop", host.EngineUnit("again"))
	h.wait("again", inState("stopped"))
	refused := h.answer(503, "POST", "/v1/pools/a/leases", "")
	if hint := fmt.Sprint(refused["hint"]); refused["code"] != "POOL_UNREADY" || refused["retriable"] != false ||
		!strings.Contains(hint, "does not start by itself; poolctl resume a starts it") {
		t.Errorf("%v", refused)
	}
	h.must("poolctl", "resume", "a", "--wait")
	h.wait("a", restarted(1))
	h.must("poolctl", "drain", "a", "--wait")
	h.must("poolctl", "resume", "a", "--wait")
	h.wait("a", restarted(1))
	h.control("a", "/stub/crash")
	h.wait("a", restarted(2))
}

// TestCleanRemovedPools: what a removed pool left is listed and deleted, what others have is not.
func TestCleanRemovedPools(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("kept", stub().quick())
	h.pool("gone", stub().quick())
	h.reload()
	h.wait("kept", isReady)
	h.wait("gone", isReady)
	before := map[string]host.Process{host.EngineUnit("kept"): h.engine("kept")}
	if out := h.must("poolctl", "clean"); strings.Contains(out, "gone") || strings.Contains(out, "kept") {
		t.Errorf("pools that run left something: %s", out)
	}
	h.removePool("gone")
	h.reload()
	h.waitGone("gone")
	out := h.must("poolctl", "clean")
	for _, dir := range []string{"/var/lib/private/pool-engine/gone.r0", "/var/cache/private/pool-engine/gone.r0"} {
		if !strings.Contains(out, dir) {
			t.Errorf("%s is not listed:\n%s", dir, out)
		}
		h.must("test", "-d", dir)
	}
	h.must("poolctl", "clean", "--remove")
	if left := h.shell("find /var/lib /var/cache -path '*/pool-engine/gone*'"); left != "" {
		t.Errorf("left: %s", left)
	}
	h.must("test", "-d", "/var/lib/private/pool-engine/kept.r0")
	h.untouched(before)
	h.pool("gone", stub().quick())
	h.reload()
	h.wait("gone", isReady)
	h.untouched(before)
}

// TestNewestProbeFailure: while probes fail, last_error has the newest cause, not the first.
func TestNewestProbeFailure(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().table("health", `interval = "200ms"`, `timeout = "200ms"`, `mode = "fail-open"`))
	h.reload()
	h.wait("a", isReady)
	for _, c := range []struct{ do, says string }{
		{"/stub/health?status=500", "500"}, {"/stub/health?status=503", "503"},
	} {
		h.control("a", c.do)
		h.waitFor(patience, "a", condition{"last_error with " + c.says, func(p host.Pool) bool {
			return p.Code() == "HEALTH_FAILED" && strings.Contains(p.LastError, c.says)
		}})
		time.Sleep(time.Second)
	}
}
