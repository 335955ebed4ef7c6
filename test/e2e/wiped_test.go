//go:build machine

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestWipedState: an administrator who deletes what is in the manager's directories while it runs
// costs no engine, no lease and no request, and the log says what was deleted.
func TestWipedState(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("a", stub().with("slots = 2").quick())
	h.pool("drained", stub().quick())
	h.pool("later", stub().quick())
	h.reload()
	for _, id := range []string{"a", "drained", "later"} {
		h.wait(id, isReady)
	}
	lease := h.lease("a", time.Hour)
	h.must("poolctl", "drain", "drained", "--wait")
	before := map[string]host.Process{host.EngineUnit("a"): h.engine("a")}
	isDrained := inState("stopped")

	t.Run("state", func(t *testing.T) {
		h := h.in(t)
		h.shell("rm -rf /var/lib/pool-managerd/*")
		// A request that is answered is on disk.
		h.answer(http.StatusAccepted, "POST", "/v1/pools/later/drain", `{"deadline_ms":0}`)
		h.killManager()
		for _, id := range []string{"drained", "later"} {
			h.wait(id, isDrained)
		}
		h.untouched(before)
		h.logged("/var/lib/pool-managerd/intents.db was deleted or replaced while in use; it is written again")
	})
	t.Run("state_without_a_request", func(t *testing.T) {
		h := h.in(t)
		h.shell("rm -rf /var/lib/pool-managerd/*")
		h.eventually(func(ctx context.Context) error {
			_, err := h.Host.Run(ctx, "sh", "-c",
				"cd /var/lib/pool-managerd && ls intents.db verdicts.db configuration.json")
			return err
		})
		h.killManager()
		h.wait("later", isDrained)
		h.untouched(before)
	})
	t.Run("runtime", func(t *testing.T) {
		h := h.in(t)
		h.must("poolctl", "resume", "later", "--wait")
		h.shell("rm -rf /run/pool-managerd/*")
		h.eventually(func(ctx context.Context) error {
			_, err := h.Host.Run(ctx, "sh", "-c",
				"cd /run/pool-managerd && ls admin.sock api.sock gpu.sock leases.db engines/a.r0.json")
			return err
		})
		h.must("curl", "-sS", "--max-time", "10", "--unix-socket", adminSocket, "http://localhost/health")
		h.untouched(before)
		h.wait("a", isReady)
		h.answer(http.StatusOK, "PUT", lease, `{"ttl_ms":3600000}`)
		h.must("curl", "-sS", "--unix-socket", "/run/pool-managerd/gpu.sock", "--max-time", "2", "-o", "/dev/null",
			"http://localhost/", "--http0.9")
		h.logged("/run/pool-managerd/gpu.sock was deleted; restarting pool-gpu.socket")
		h.logged("/run/pool-managerd/api.sock was deleted; restarting pool-managerd.socket")
		h.control("later", "/stub/crash")
		h.wait("later", restarted(1))
		// A socket that an administrator stopped stays stopped.
		h.must("systemctl", "stop", "pool-gpu.socket")
		time.Sleep(2*guardEvery + time.Second)
		if u := h.unit("pool-gpu.socket"); u.ActiveState == "active" {
			t.Errorf("it was started again: %+v", u)
		}
		h.must("systemctl", "start", "pool-gpu.socket")
	})
	t.Run("runtime_directory", func(t *testing.T) {
		h := h.in(t)
		h.shell("rm -rf /run/pool-managerd")
		h.logged("/run/pool-managerd was deleted; its leases are kept, and the manager restarts")
		h.logged("read the leases of the former manager, whose directory was deleted")
		h.eventually(func(ctx context.Context) error {
			_, err := h.Host.Run(ctx, "sh", "-c",
				"cd /run/pool-managerd && ls api.sock gpu.sock leases.db engines/a.r0.json")
			return err
		})
		h.wait("a", isReady)
		h.answer(http.StatusOK, "PUT", lease, `{"ttl_ms":3600000}`)
		h.untouched(before)
	})
	t.Run("a_file_moved_away", func(t *testing.T) {
		h := h.in(t)
		h.shell("cd /run/pool-managerd && mv leases.db /var/tmp/; echo x >engines/a.r0.json; rm -r restarts")
		h.eventually(func(ctx context.Context) error {
			out, err := h.Host.Run(ctx, "sh", "-c",
				"cd /run/pool-managerd && ls leases.db restarts && cat engines/a.r0.json")
			if err == nil && !strings.Contains(out, `"pool_id": "a"`) {
				err = fmt.Errorf("the hand-off file is %s", out)
			}
			return err
		})
		h.killManager()
		h.answer(http.StatusOK, "PUT", lease, `{"ttl_ms":3600000}`)
		h.untouched(before)
	})
	// Children of PID 1 have copies of its sockets for some milliseconds.
	t.Run("sockets_restarted_again_and_again", func(t *testing.T) {
		h := h.in(t)
		for range 15 {
			h.must("systemctl", "restart", "pool-managerd.socket", "pool-managerd")
			h.must("curl", "-sS", "--max-time", "10", "-o", "/dev/null", "http://127.0.0.1:9200/health")
		}
		h.untouched(before)
	})
}

// guardEvery is how often the manager looks at its files and sockets.
const guardEvery = 10 * time.Second

// logged waits until the manager's journal has a text.
func (s *site) logged(text string) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		out, err := s.Host.Run(ctx, "journalctl", "--no-pager", "-o", "cat", "-u", host.ManagerUnit)
		if err == nil && !strings.Contains(out, text) {
			err = fmt.Errorf("the log does not have %q", text)
		}
		return err
	})
}
