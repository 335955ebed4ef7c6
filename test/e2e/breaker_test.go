//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

func breaker(state string) condition {
	return condition{"breaker " + state, func(p host.Pool) bool { return p.Breaker == state }}
}

// TestBreaker: an engine that fails too often is no longer started, except for one trial now and
// then, with or without a manager.
func TestBreaker(t *testing.T) {
	t.Parallel()
	for _, release := range []machine.Release{machine.Bookworm, machine.Trixie} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("a", stub().table("health", `interval = "500ms"`, `timeout = "500ms"`).table("restart",
				`initial = "1s"`, `factor = 1.0`, `max = "1s"`, `jitter = 0.0`, `breaker_failures = 3`,
				`breaker_timeout = "4s"`, `breaker_stable = "2s"`))
			h.reload()
			for i := range 3 {
				h.wait("a", restarted(i))
				h.control("a", "/stub/crash")
			}
			p := h.wait("a", failsWith("BREAKER_OPEN"), breaker("open"))
			if p.Live || !strings.Contains(p.LastError, "SIGKILL") || !strings.Contains(p.Hint, "poolctl reset a") {
				t.Errorf("%s", p)
			}
			if out := h.must("systemctl", "list-units", "--all", "--no-legend", "--plain",
				"pool-engine@*"); strings.Contains(out, "auto-restart") {
				t.Errorf("PID 1 would start it again: %s", out)
			}
			h.killManager()
			h.wait("a", failsWith("BREAKER_OPEN"), breaker("open"))

			h.wait("a", isReady, breaker("half-open")) // the trial
			h.control("a", "/stub/crash")
			h.wait("a", failsWith("BREAKER_OPEN"), breaker("open"))
			h.must("poolctl", "reset", "a", "--wait")
			h.wait("a", isReady, breaker("closed"))

			for range 3 {
				h.wait("a", isReady)
				h.control("a", "/stub/crash")
				h.wait("a", condition{"not ready", func(p host.Pool) bool { return !p.Ready }})
			}
			h.wait("a", failsWith("BREAKER_OPEN"))
			h.wait("a", isReady, breaker("half-open"))
			h.wait("a", isReady, breaker("closed")) // the trial proved itself
		})
	}
}

// TestFiftyPoolsCrashTogether: what fell together does not start together, and each is reported
// with its own last words.
func TestFiftyPoolsCrashTogether(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	const pools = 50
	ours := map[string]bool{} // other tests use the machine too
	for i := range pools {
		ours[fmt.Sprintf("m%d", i)] = true
		h.pool(fmt.Sprintf("m%d", i), stub().table("restart", `initial = "4s"`, `factor = 1.0`, `max = "4s"`,
			`jitter = 0.5`))
	}
	h.reload()
	for i := range pools {
		h.waitFor(2*patience, fmt.Sprintf("m%d", i), isReady)
	}
	h.must("systemctl", "kill", "--signal=KILL", "pool-engine@m*.service")
	for i := range pools {
		h.waitFor(2*patience, fmt.Sprintf("m%d", i), restarted(1))
	}
	var first, last time.Duration
	for i := range pools {
		at := h.mainStart(host.EngineUnit(fmt.Sprintf("m%d", i)))
		if i == 0 || at < first {
			first = at
		}
		last = max(last, at)
	}
	t.Logf("fifty engines with a delay of 4 s ± 50 %% were started again over %s", last-first)
	if last-first < 2*time.Second {
		t.Errorf("fifty engines were started again within %s", last-first)
	}
	h.eventually(func(ctx context.Context) error {
		out, err := h.Host.Run(ctx, "journalctl", "--no-pager", "-o", "json", "--output-fields=POOL_ID,LINES", "-u",
			host.ManagerUnit, "RESULT=signal")
		reported := 0
		for line := range strings.Lines(out) {
			var e struct {
				Pool  string `json:"POOL_ID"`
				Lines any    `json:"LINES"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return fmt.Errorf("%w: %q", err, line)
			}
			if ours[e.Pool] && e.Lines != nil {
				reported++
			}
		}
		if err == nil && reported != pools {
			err = fmt.Errorf("%d of %d ends are reported with last words", reported, pools)
		}
		return err
	})
}

// mainStart is when a unit's main process was started, since the boot.
func (s *site) mainStart(unit string) time.Duration {
	s.t.Helper()
	out := strings.TrimSpace(s.must("systemctl", "show", "-p", "ExecMainStartTimestampMonotonic", "--value", unit))
	usec, err := strconv.ParseInt(out, 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return time.Duration(usec) * time.Microsecond
}

// TestEngineThatIgnoresSIGTERM: one SIGTERM, then SIGKILL after the stop timeout; a drain's
// deadline does not wait for it.
func TestEngineThatIgnoresSIGTERM(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub("--ignore-term").with("slots = 1").quick())
	h.reload()
	h.wait("a", isReady)
	h.lease("a", time.Hour)
	began := time.Now()
	h.must("poolctl", "drain", "a", "--deadline", "1s")
	h.wait("a", inState("stopped"), failsWith("DRAIN_TIMEOUT"))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("stopped by force after %s", took)
	}
}

// TestClockJump: a clock that is set moves no deadline.
func TestClockJump(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.VM})
	h.pool("a", stub().with("slots = 2").quick())
	h.reload()
	h.wait("a", isReady)
	held := h.lease("a", time.Hour)
	h.must("poolctl", "drain", "a", "--deadline", "10m")
	now := strings.TrimSpace(h.must("date", "+%s"))
	sec, err := strconv.ParseInt(now, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	h.must("date", "-s", fmt.Sprintf("@%d", sec+7200))
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		_, _ = h.Run(ctx, "date", "-s", fmt.Sprintf("@%d", sec+60)) // other tests reuse the machine
	}()
	h.killManager()
	h.wait("a", inState("draining"), leases(1))
	h.answer(200, "PUT", held, `{"ttl_ms":60000}`)
}
