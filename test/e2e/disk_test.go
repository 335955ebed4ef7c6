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

// TestDiskOfEngines: what an engine has in directories that the manager may not enter is counted.
// A little too much is reported, and the engine goes on; far too much stops it until it is gone.
// The file is written by the engine's user, as an engine would.
func TestDiskOfEngines(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("a", stub().quick().table("limits", `state_max = "8M"`))
			h.pool("neighbour", stub().quick())
			h.reload()
			h.wait("a", isReady)
			h.wait("neighbour", isReady)
			before := h.engines()
			// writes makes files of together so many MiB, in either directory.
			writes := func(state, cache int) {
				h.shell(fmt.Sprintf(`pid=$(systemctl show -P MainPID '%s'); user=$(stat -c %%u /proc/$pid)
for dir in state:%d cache:%d; do
	case $dir in state:*) of=/var/lib/private/pool-engine/a.r0;; *) of=/var/cache/private/pool-engine/a.r0;; esac
	head -c ${dir#*:}M /dev/zero >$of/large; chown $user:$user $of/large; chmod 600 $of/large
done`, host.EngineUnit("a"), state, cache))
			}
			counted := condition{"counted", func(p host.Pool) bool {
				return len(p.Replicas) == 1 && p.Replicas[0].DiskBytes > 10<<20
			}}
			fine := condition{"without an error", func(p host.Pool) bool { return p.LastError == "" }}

			writes(5, 6)
			h.must("systemctl", "restart", "pool-managerd") // counts when it starts, else every five minutes
			p := h.wait("a", isReady, says("STATE_TOO_LARGE"), counted)
			if !strings.Contains(p.LastError, "hold 11 MiB; [limits] state_max is 8 MiB") {
				t.Errorf("error %q", p.LastError)
			}
			if got := h.engineMetric("engine_disk_bytes", "a"); got < 11<<20 || got > 12<<20 {
				t.Errorf("engine_disk_bytes is %v", got)
			}
			h.untouched(before)

			writes(12, 6) // soon, since it is over already
			h.waitFor(2*time.Minute, "a", inState("waiting"), failsWith("STATE_TOO_LARGE"))
			if u := h.unit(host.EngineUnit("a")); u.ActiveState == "active" {
				t.Errorf("the engine runs: %+v", u)
			}
			h.shell("rm /var/lib/private/pool-engine/a.r0/large")
			p = h.waitFor(2*time.Minute, "a", isReady, fine)
			if p.Replicas[0].RestartCount != 0 {
				t.Errorf("its stop counts as %d failed runs", p.Replicas[0].RestartCount)
			}
			delete(before, host.EngineUnit("a"))
			h.untouched(before)
			h.eventually(func(ctx context.Context) error {
				out, err := h.Host.Run(ctx, "sh", "-c",
					"journalctl --no-pager -q -o cat -u pool-disk.service | grep -cE 'Start|Deactiv|Finish' || true")
				if err == nil && strings.TrimSpace(out) != "0" {
					err = fmt.Errorf("each counting is logged: %s lines", out)
				}
				return err
			})
		})
	}
}
