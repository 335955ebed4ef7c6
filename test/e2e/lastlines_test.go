//go:build machine

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestCase17: the last line of an engine that ends after 60,000 others is in its report, on each
// release. Where an engine writes more than its limit, here a lower one, the report of the next run
// has journald's own count of what is lost: PID 1's journal has no line about it before.
func TestCase17(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			defer h.shell("rm -f /usr/local/bin/floods")
			// One process: others get journald's own limit once the unit has ended.
			h.write("/usr/local/bin/floods", "#!/bin/sh\nexec awk -v n=$1 'BEGIN { "+
				"while (i++ < n) print \"a line of noise\"; print \"FATAL: reason\"; exit 3 }'\n")
			h.shell("chmod 755 /usr/local/bin/floods")
			floods := func(lines string) poolFile {
				return poolFile{keys: []string{`engine = "command"`, `devices = []`, arguments([]string{lines})},
					tables: []string{"[provisioning]\nbinary = \"/usr/local/bin/floods\""}}
			}
			h.write("/run/systemd/system/"+host.EngineUnit("many")+".d/50-limit.conf",
				"[Service]\nLogRateLimitIntervalSec=1s\nLogRateLimitBurst=100\n")
			h.shell("systemctl daemon-reload")
			h.pool("some", floods("60000").rare())
			h.pool("many", floods("20000").table("restart", `initial = "4s"`, `max = "4s"`, `breaker_failures = 50`))
			h.reload()
			p := h.wait("some", reported)
			if d := p.Details; !slices.Contains(d.Lines, "FATAL: reason") || d.Suppressed != 0 ||
				p.Code() != "ENGINE_START_FAILED" || !strings.Contains(p.LastError, "exited with status 3") {
				t.Errorf("%+v, %s", d, p)
			}
			h.eventually(func(ctx context.Context) error {
				p, err := h.Pool(ctx, "many")
				if err != nil || p.Details == nil || p.Details.Suppressed == 0 {
					return fmt.Errorf("%+v, %s: %w", p.Details, p, err)
				}
				if want := fmt.Sprintf("journald suppressed %d lines of this run or the end of the one before",
					p.Details.Suppressed); !strings.Contains(p.LastError, want) || p.Details.Suppressed > 20002 {
					t.Errorf("%+v, want %s in %s", p.Details, want, p)
				}
				return nil
			})
			if out := h.shell("poolctl status many"); !strings.Contains(out, "lines were suppressed by journald") {
				t.Errorf("poolctl status:\n%s", out)
			}
			if out := h.shell("poolctl logs many -n all | grep -a 'Suppressed' | head -3"); !strings.Contains(out,
				"messages from "+host.EngineUnit("many")) {
				t.Errorf("poolctl logs:\n%s", out)
			}
		})
	}
}

// TestLastWordsOfAProcessThatIsGone: what an engine wrote right before its end is in its report,
// and decides its class, also where journald reads it when the process is gone: it knows of the
// line only the unit then, and neither the slice nor the invocation.
func TestLastWordsOfAProcessThatIsGone(t *testing.T) {
	t.Parallel()
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			defer h.shell("rm -f /usr/local/bin/dies")
			const words = "CUDA error: an illegal memory access was encountered"
			h.write("/usr/local/bin/dies", "#!/bin/sh\necho '"+words+"'\nexit 1\n")
			h.shell("chmod 755 /usr/local/bin/dies")
			h.pool("gone", poolFile{keys: []string{`engine = "command"`, `devices = []`},
				tables: []string{"[provisioning]\nbinary = \"/usr/local/bin/dies\""}}.rare())
			stopped := time.Now()
			h.shell("pkill -STOP -x systemd-journal")
			h.shell("kill -HUP $(systemctl show -P MainPID " + host.ManagerUnit + ")")
			h.eventually(func(ctx context.Context) error {
				sub, err := h.Host.Run(ctx, "systemctl", "show", "-P", "SubState", host.EngineUnit("gone"))
				if err != nil || strings.TrimSpace(sub) != "auto-restart" {
					return fmt.Errorf("the unit is %s (%w)", sub, err)
				}
				return nil
			})
			h.shell("pkill -CONT -x systemd-journal")
			p := h.wait("gone", reported)
			if !strings.Contains(p.LastError, words) || p.Code() != "CUDA_ERROR" {
				t.Errorf("journald was stopped for %s: %s", time.Since(stopped), p)
			}
		})
	}
}
