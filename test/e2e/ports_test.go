//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// squat listens on ports of the loopback as an ordinary user, until the unit is stopped.
func (s *site) squat(unit, ports string) {
	s.t.Helper()
	s.write("/usr/local/bin/squat", `use IO::Socket::INET; my @all = map { IO::Socket::INET->new(LocalAddr => "127.0.0.1",
LocalPort => $_, Listen => 5, ReuseAddr => 1) // () } `+ports+
		`; print "squatting on ", scalar(@all), "\n"; $| = 1; sleep;`)
	s.must("systemd-run", "--quiet", "--unit="+unit, "--property=User=nobody", "--property=LimitNOFILE=4096",
		"perl", "/usr/local/bin/squat")
	s.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience) // the test's own is over
		defer cancel()
		if _, err := s.Host.Shell(ctx, "systemctl stop "+unit); err != nil {
			s.t.Error(err)
		}
	})
}

// TestPortsInUse: a pool serves although other programs have most of the ports, at once; a program
// that takes the port of an engine that crashed costs one other port, and no failure but the crash.
func TestPortsInUse(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.squat("squat-most", "21000 .. 21989")
	h.eventually(func(ctx context.Context) error {
		if out, err := h.Shell(ctx, "ss -Hltn 'sport >= :21000 and sport <= :21989' | wc -l"); err != nil ||
			strings.TrimSpace(out) != "990" {
			return fmt.Errorf("%s listeners, %w", out, err)
		}
		return nil
	})
	h.pool("a", stub().table("health", `interval = "500ms"`, `timeout = "500ms"`).table("restart", `initial = "2s"`,
		`factor = 1.0`, `max = "2s"`, `jitter = 0.0`, `breaker_failures = 2`))
	began := time.Now()
	h.reload()
	p := h.wait("a", isReady)
	took, port := time.Since(began), p.Replicas[0].Endpoint[strings.LastIndexByte(p.Replicas[0].Endpoint, ':')+1:]
	t.Logf("ready after %s on port %s", took, port)
	if port < "21990" || p.RestartCount != 0 {
		t.Errorf("it serves on port %s, restarts %d", port, p.RestartCount)
	}

	h.control("a", "/stub/crash")
	h.squat("squat-one", port+" .. "+port)
	p = h.wait("a", isReady, condition{"on another port", func(p host.Pool) bool {
		return !strings.HasSuffix(p.Replicas[0].Endpoint, ":"+port)
	}})
	if p.Breaker != "closed" {
		t.Errorf("%s", p)
	}
	if log := h.shell("journalctl --no-pager -o cat -u pool-managerd -g 'another process uses port " + port +
		"'"); log == "" {
		t.Error("the log does not name the port that is in use")
	}
}
