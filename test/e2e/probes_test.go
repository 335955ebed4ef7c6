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

// often is a [health] table whose generations follow each other within a second, and fail within
// two.
func (p poolFile) often(more ...string) poolFile {
	return p.table("health", append([]string{`interval = "500ms"`, `timeout = "500ms"`, `failures = 2`,
		`generate_interval = "500ms"`, `generate_timeout = "1s"`, `generate_failures = 2`}, more...)...)
}

// TestProbeKinds: an engine is probed as its pool file configures, by the gate while it loads and
// by the manager from then on.
func TestProbeKinds(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Trixie} {
		t.Run(string(release), func(t *testing.T) {
			h := installed(t, release)
			health := func(more ...string) []string {
				return append([]string{`interval = "500ms"`, `timeout = "500ms"`, `failures = 2`}, more...)
			}
			began := time.Now()
			h.pool("grpc", command("--grpc", "--load", "3s").table("health", health(`probe = "grpc"`)...))
			h.pool("tcp", command("--listen-late", "--load", "1s").table("health", health(`probe = "tcp"`)...))
			h.pool("body", command().table("health", health(`body = '"status": *"(ok|well)"\}\s*$'`)...))
			h.pool("nobody", command("--grpc").table("health",
				health(`probe = "grpc"`, `grpc_service = "nobody.Serves"`)...))
			h.reload()
			for _, id := range []string{"grpc", "tcp", "body"} {
				h.wait(id, isReady)
			}
			if took := time.Since(began); took < 3*time.Second {
				t.Errorf("ready after %s, before it had loaded", took)
			}
			h.wait("nobody", inState("starting"))
			if !strings.Contains(h.must("poolctl", "render", "grpc"), "grpc://127.0.0.1:") {
				t.Error("the gate does not ask by gRPC")
			}
			before := h.engine("body")
			h.must("systemctl", "kill", "--signal=STOP", host.EngineUnit("grpc"))
			h.wait("grpc", inState("unhealthy"), failsWith("HEALTH_FAILED"))
			h.control("body", "/stub/health?status=500")
			h.wait("body", inState("unhealthy"), failsWith("HEALTH_FAILED"))
			h.wait("tcp", isReady)
			if after := h.engine("body"); after != before {
				t.Errorf("a failed probe ended the engine: %v, then %v", before, after)
			}
		})
	}
}

// TestRealGenerations: a real engine generates a token each time, and none of its answers is
// misread.
func TestRealGenerations(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("tiny", llama().often())
	h.reload()
	p := h.wait("tiny", isReady)
	tokens := func() string { return h.must("curl", "-s", p.Replicas[0].Endpoint+"/metrics") }
	h.shell("sleep 5")
	after := tokens()
	var n int
	for line := range strings.Lines(after) {
		_, _ = fmt.Sscanf(line, "llamacpp:tokens_predicted_total %d", &n)
	}
	if n < 4 {
		t.Errorf("%d tokens were generated in five seconds\n%s", n, after)
	}
	h.wait("tiny", isReady)
	// The machine has the log of other tests, too.
	log := h.must("journalctl", "--no-pager", fmt.Sprintf("--since=@%d", h.began.Unix()), "-u", "pool-managerd")
	if strings.Contains(log, "refuses the test generation") ||
		strings.Contains(log, "the test generation of one token failed") {
		t.Errorf("the log:\n%s", log)
	}
	t.Logf("/slots is %.600s", h.must("curl", "-s", p.Replicas[0].Endpoint+"/slots"))
}

// TestHungButHealthy: an engine that answers its probe and generates nothing loses ready, and is
// restarted past escalate_after with its backoff.
func TestHungButHealthy(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("hung", stub().often(`escalate_after = "2s"`).table("restart", `initial = "300ms"`, `max = "1s"`,
		`jitter = 0.0`))
	h.pool("open", stub().often(`escalate_after = "2s"`, `mode = "fail-open"`))
	h.pool("stopped", stub().often(`escalate_after = "2s"`).table("restart", `initial = "300ms"`, `max = "1s"`,
		`jitter = 0.0`))
	h.pool("well", stub().often())
	h.reload()
	for _, id := range []string{"hung", "open", "stopped", "well"} {
		h.wait(id, isReady)
	}
	hung, open, stopped, well := h.engine("hung"), h.engine("open"), h.engine("stopped"), h.engine("well")
	h.control("hung", "/stub/mute")
	h.control("open", "/stub/mute")
	h.must("systemctl", "kill", "--signal=STOP", host.EngineUnit("stopped"))
	p := h.wait("hung", inState("unhealthy"), failsWith("HEALTH_FAILED"))
	if !strings.Contains(p.LastError, "2 generations of one token in a row failed") {
		t.Errorf("last_error is %q", p.LastError)
	}
	h.wait("hung", isReady, condition{"restarted once", func(p host.Pool) bool { return p.RestartCount == 1 }})
	h.wait("stopped", isReady, condition{"restarted once", func(p host.Pool) bool { return p.RestartCount == 1 }})
	for id, before := range map[string]host.Process{"hung": hung, "stopped": stopped} {
		if h.engine(id) == before {
			t.Errorf("%s runs as before", id)
		}
	}
	h.wait("open", condition{"ready with HEALTH_FAILED", func(p host.Pool) bool {
		return p.Ready && p.Code() == "HEALTH_FAILED"
	}})
	if h.engine("open") != open || h.engine("well") != well {
		t.Error("an engine was restarted that fails open, or that is well")
	}
}

// TestBusyIsNotDead: an engine that no longer answers, as behind a long prefill, is not killed
// while it uses CPU time, up to its limit.
func TestBusyIsNotDead(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("busy", stub().table("health", `interval = "500ms"`, `timeout = "500ms"`, `failures = 2`,
		`escalate_after = "2s"`, `escalate_limit = "20s"`, `generate_interval = "0s"`).
		table("restart", `initial = "300ms"`, `max = "1s"`))
	h.reload()
	h.wait("busy", isReady)
	pid := h.engine("busy").PID
	h.control("busy", "/stub/spin")
	h.control("busy", "/stub/hang")
	h.wait("busy", inState("unhealthy"))
	time.Sleep(8 * time.Second)
	if p := h.get("busy"); p.State != "unhealthy" || h.engine("busy").PID != pid {
		t.Errorf("an engine that works was ended: %s", p)
	}
	h.wait("busy", restarted(1))
}

// crowded has a local user hold so many connections to an engine's port, and returns what ends it.
func (s *site) crowded(id string, connections int) (end func()) {
	s.t.Helper()
	at := strings.TrimPrefix(s.get(id).Replicas[0].Endpoint, "http://")
	s.must("systemd-run", "--quiet", "--unit=crowd", "--property=User=nobody", "--property=LimitNOFILE=65536",
		"bash", "-c",
		fmt.Sprintf("for i in $(seq %d); do exec {fd}<>/dev/tcp/%s; done; exec sleep infinity", connections,
			strings.Replace(at, ":", "/", 1)))
	return func() { s.must("systemctl", "stop", "crowd") }
}

// TestCrowdedPort: an engine that a local user keeps from answering by connections to its port is
// unready while they last, with that user's id in the error, and is not restarted for it.
func TestCrowdedPort(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().table("sandbox", `network = "loopback"`).table("health", `interval = "500ms"`, `timeout = "500ms"`,
		`failures = 2`, `escalate_after = "5s"`, `generate_interval = "0s"`).table("restart", `initial = "300ms"`))
	h.reload()
	h.wait("a", isReady)
	run := h.engine("a")
	end := h.crowded("a", 1500)
	h.control("a", "/stub/hang")
	h.wait("a", inState("unhealthy"), says("user id 65534 has "))
	time.Sleep(12 * time.Second)
	h.wait("a", inState("unhealthy"), inRun(run))
	end()
	h.wait("a", restarted(1)) // what it does without a crowd is its own fault
}
