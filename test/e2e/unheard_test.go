//go:build machine

package e2e

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestFieldCase11: an engine that serves, and not where it is asked, is not ready and does not stay
// "starting" either. Its access log, which has a line for each request of the gate, is no progress.
// last_error says what it answers, and following the hint is enough.
func TestFieldCase11(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			waits := func(p poolFile, health ...string) poolFile {
				return p.table("health", append(health, `interval = "500ms"`, `timeout = "500ms"`)...).
					table("restart", `initial = "1s"`, `max = "2s"`, `jitter = 0.0`, `breaker_failures = 100`)
			}
			stall := `start_timeout = "10s"`
			path := command("--health-path", "/v1/models", "--access-log")
			cases := []struct {
				name string
				pool poolFile
				says []string // in last_error
				hint string
			}{
				{"path", waits(path, stall), []string{"no progress for 10s", "404 at /health"}, "[health] path"},
				{"quiet", waits(command("--health-path", "/v1/models"), stall), []string{"404 at /health"}, "[health] path"},
				{"address", waits(command("--host", "::1"), stall),
					[]string{"does not listen at the address", "the gate saw: the engine listens on [::1]:", "not on 127.0.0.1:"}, "127.0.0.1"},
				{"slow", waits(command("--load", "1h"), stall, `start_deadline = "8s"`),
					[]string{"was not ready within 8s", "start_deadline"}, "start_deadline"},
			}
			for _, c := range cases {
				h.pool(c.name, c.pool)
			}
			h.reload()
			for _, c := range cases {
				last := c.says[len(c.says)-1]
				p := h.wait(c.name, failsWith("ENGINE_START_TIMEOUT"),
					condition{last, func(p host.Pool) bool { return strings.Contains(p.LastError, last) }})
				for _, part := range c.says {
					if !strings.Contains(p.LastError, part) {
						t.Errorf("%s: last_error lacks %q: %s", c.name, part, p)
					}
				}
				if !strings.Contains(p.Hint, c.hint) {
					t.Errorf("%s: the hint lacks %q: %s", c.name, c.hint, p)
				}
			}
			if out := h.must("poolctl", "status", "path"); !strings.Contains(out, "404 at /health") {
				t.Errorf("poolctl status:\n%s", out)
			}
			h.pool("path", waits(path, stall, `path = "/v1/models"`))
			h.reload()
			h.wait("path", isReady, condition{"no error", func(p host.Pool) bool { return p.LastError == "" }})
			if log := h.shell("poolctl logs path | grep -c 'GET /health' || true"); strings.TrimSpace(log) == "0" {
				t.Errorf("the stand-in had no access log: %s", log)
			}
		})
	}
}
