//go:build machine

package e2e

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestStateOfAFormerUser: what an engine wrote when all engines were one user, as in versions
// before each replica had its own, belongs to its own user at the next start, on each release.
func TestStateOfAFormerUser(t *testing.T) {
	for _, release := range machine.Releases() {
		t.Run(string(release), func(t *testing.T) {
			t.Parallel()
			h := installed(t, release)
			// A unit of a former version had no User=, and PID 1 took the part of its name before
			// the @ for the name of its user.
			h.must("systemd-run", "--quiet", "--wait", "--collect", "--unit=former", "--property=User=pool-engine",
				"--property=DynamicUser=yes", "--property=StateDirectory=pool-engine/former.r0",
				"--property=CacheDirectory=pool-engine/former.r0", "--property=UMask=077", "sh", "-c",
				"umask 077; cd /var/lib/pool-engine/former.r0; mkdir deep; echo kept >deep/state; "+
					"echo kept >/var/cache/pool-engine/former.r0/cache")
			const deep = "/var/lib/private/pool-engine/former.r0/deep/state"
			// That user no longer exists; PID 1 gives the next owner the same ID where it is free.
			before := h.must("stat", "-c", "%u", deep)
			h.pool("former", stub().quick())
			h.reload()
			h.wait("former", isReady)
			for _, path := range []string{"/var/lib/pool-engine/former.r0/deep/state",
				"/var/cache/pool-engine/former.r0/cache"} {
				ctx, cancel := h.within()
				a, err := h.Engine(ctx, "former", "POST", "/stub/open?path="+path, nil)
				cancel()
				if err != nil || strings.TrimSpace(string(a.Body)) != "opened" {
					t.Errorf("the engine cannot use %s: %d %s %v", path, a.Status, a.Body, err)
				}
			}
			after := h.must("stat", "-c", "%u %U %a", deep)
			if !strings.Contains(after, " pe-former-") || !strings.HasSuffix(after, " 600") {
				t.Errorf("%s belongs to %s; it was of %s", deep, after, before)
			}
			t.Logf("user ID %s before, %s after", before, after)
			if got := h.must("cat", deep); got != "kept" {
				t.Errorf("it holds %q", got)
			}
		})
	}
}
