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

// TestIsolate: systemctl isolate of a target that does not ask for engines stops none of them, and
// not the GPU helper; the modes that end everything but a shell stop them, and they come back.
func TestIsolate(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("a", stub().quick())
			h.reload()
			h.wait("a", isReady)
			h.must("systemctl", "start", host.HelperUnit)
			h.shell("systemd-run --quiet --collect --unit=test-witness.service sleep 1000")
			before, helper := h.engines(), h.unit(host.HelperUnit)

			h.must("systemctl", "isolate", "multi-user.target")

			if w := h.unit("test-witness.service"); w.ActiveState == "active" {
				t.Fatal("isolate stopped nothing: the test proves nothing")
			}
			h.untouched(before)
			if now := h.unit(host.HelperUnit); now.Process() != helper.Process() {
				t.Errorf("the GPU helper was touched: %+v, it was %+v", now, helper)
			}
			h.wait("a", isReady)
			h.firstAnswerIs(before)

			// A target without sockets does not ask for the manager either: engines go on without
			// it.
			h.write("/run/systemd/system/test-few.target",
				"[Unit]\nRequires=sysinit.target dbus.socket\nAllowIsolate=yes\n")
			h.must("systemctl", "daemon-reload")
			h.must("systemctl", "isolate", "test-few.target")
			h.eventually(func(ctx context.Context) error {
				u, err := h.Unit(ctx, host.ManagerUnit)
				if err == nil && u.ActiveState != "inactive" {
					err = fmt.Errorf("the manager runs, so that the test proves nothing: %+v", u)
				}
				return err
			})
			h.untouched(before)
			h.must("systemctl", "isolate", "multi-user.target")
			h.wait("a", isReady)
			h.untouched(before)

			// Rescue mode means that nothing runs.
			h.must("systemctl", "isolate", "rescue.target")
			h.eventually(func(ctx context.Context) error {
				running, err := h.Processes(ctx)
				if err == nil && len(running) > 0 {
					err = fmt.Errorf("in rescue mode there runs %v", running)
				}
				return err
			})
			h.must("systemctl", "isolate", "multi-user.target")
			h.wait("a", isReady)
		})
	}
}

// TestSoftReboot: where the host asks for it, engines keep their process and their leases over a
// soft-reboot, the manager adopts them, and PID 1 restarts them afterwards as before. A reboot
// stops them as ever.
func TestSoftReboot(t *testing.T) {
	for _, release := range []machine.Release{machine.Trixie, machine.Forky} {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			h.pool("former", stub().quick())
			h.reload()
			h.wait("former", isReady)
			h.write(host.ConfigFile, host.Config+"survive_soft_reboot = true\n")
			h.pool("a", stub().with("slots = 2").quick())
			h.reload()
			h.wait("a", isReady)
			lease := h.lease("a", time.Hour)
			kept := map[string]host.Process{host.EngineUnit("a"): h.engine("a")}
			former, manager := h.engine("former"), h.unit(host.ManagerUnit)

			h.softReboot()

			h.untouched(kept)
			if now := h.unit(host.ManagerUnit); now.MainPID == manager.MainPID {
				t.Error("the manager was not restarted: the test proves nothing")
			}
			h.wait("a", isReady)
			h.firstAnswerIs(kept)
			h.answer(http.StatusOK, "PUT", lease, `{"ttl_ms":60000}`)
			// It was started before the key was set. It has the key now.
			h.wait("former", isReady)
			if now := h.engine("former"); now.Invocation == former.Invocation {
				t.Errorf("an engine that does not survive has survived: %+v", now)
			}
			h.control("a", "/stub/crash")
			h.wait("a", restarted(1))
			both := h.engines()
			h.softReboot()
			h.untouched(both)
			h.wait("former", isReady)

			// Without the key the next start has it no longer.
			h.write(host.ConfigFile, host.Config)
			h.reload()
			h.answer(http.StatusAccepted, "POST", "/v1/pools/a/restart", "")
			h.eventually(func(ctx context.Context) error {
				out, err := h.Host.Run(ctx, "systemctl", "show", "-p", "SurviveFinalKillSignal", "--value",
					host.EngineUnit("a"))
				if err == nil && strings.TrimSpace(out) != "no" {
					err = fmt.Errorf("SurviveFinalKillSignal=%s", out)
				}
				return err
			})
			h.wait("a", isReady)
		})
	}
}

// softReboot replaces everything but the kernel, and waits until the manager answers again.
func (s *site) softReboot() {
	s.t.Helper()
	// A question that PID 1 takes while it executes itself again is never answered.
	const answerWait = 5 * time.Second
	count := func(ctx context.Context) (string, error) {
		ctx, cancel := context.WithTimeout(ctx, answerWait)
		defer cancel()
		return s.Host.Run(ctx, "systemctl", "show", "-p", "SoftRebootsCount", "--value")
	}
	ctx, cancel := s.within(2 * patience)
	defer cancel()
	before, err := count(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	// The shell that asks for it is ended with everything else.
	asked, stop := context.WithTimeout(ctx, answerWait)
	s.M.Run(asked, "systemctl", "soft-reboot")
	stop()
	err = host.Eventually(ctx, func(ctx context.Context) error {
		after, err := count(ctx)
		if err == nil && after == before {
			err = fmt.Errorf("%s soft-reboots were made", strings.TrimSpace(after))
		}
		return err
	})
	if err == nil {
		err = s.Answering(ctx)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
