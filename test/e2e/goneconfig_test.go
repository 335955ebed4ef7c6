//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestConfigurationThatIsGone: a config.toml or a directory of pool files that was there and is
// gone, whatever took it away, is reported by the check, the reload, the API and the log, and stops
// no engine, over a restart of the manager too, until it is back or an administrator says that it
// is meant.
func TestConfigurationThatIsGone(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Trixie)
	h.pool("kept", stub().quick())
	h.pool("drained", stub().quick())
	h.reload()
	h.wait("kept", isReady)
	h.wait("drained", isReady)
	h.must("poolctl", "drain", "drained", "--wait")
	before := h.engines()
	const away = "/var/tmp/away"
	for _, c := range []struct{ name, take, giveBack, file, says string }{
		{"config_deleted", "mv " + host.ConfigFile + " " + away, "mv " + away + " " + host.ConfigFile,
			host.ConfigFile, "the file is gone"},
		{"config_a_dangling_link", "mv " + host.ConfigFile + " " + away + "; ln -s /nowhere " + host.ConfigFile,
			"mv " + away + " " + host.ConfigFile, host.ConfigFile, "symbolic link"},
		{"config_unreadable", "chmod 000 " + host.ConfigFile, "chmod 644 " + host.ConfigFile, host.ConfigFile, "permission denied"},
		{"pools_moved_away", "mv " + host.PoolsDir + " " + away, "mv " + away + " " + host.PoolsDir,
			host.PoolsDir, "the directory is gone; it had 2 pool files"},
		{"pools_a_dangling_link", "mv " + host.PoolsDir + " " + away + "; ln -s /nowhere " + host.PoolsDir,
			"rm " + host.PoolsDir + "; mv " + away + " " + host.PoolsDir, host.PoolsDir, "could not read the directory"},
		{"pools_unreadable", "chmod 000 " + host.PoolsDir, "chmod 755 " + host.PoolsDir, host.PoolsDir, "permission denied"},
		{"pools_hidden_by_an_empty_file_system", "mount -t tmpfs none " + host.PoolsDir, "umount " + host.PoolsDir,
			host.PoolsDir, "a file system may not be mounted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := h.in(t)
			h.shell(c.take)
			for _, program := range []string{"poolctl check", "pool-managerd --check"} {
				out := h.shell("! " + program + " 2>&1")
				if !strings.Contains(out, c.file) || !strings.Contains(out, c.says) {
					t.Errorf("%s: %s", program, out)
				}
			}
			h.reloadFails()
			h.reported(t, c.file, c.says)
			h.untouched(before)
			h.must("systemctl", "restart", host.ManagerUnit)
			h.reported(t, c.file, c.says)
			h.untouched(before)
			h.reloadFails()
			h.untouched(before)
			h.shell(c.giveBack)
			h.must("poolctl", "check")
			h.reload()
			h.noProblems()
			h.wait("kept", isReady)
			h.untouched(before)
			// What operators asked of a pool is not forgotten with its file.
			h.wait("drained", inState("stopped"))
		})
	}
	t.Run("accepted", func(t *testing.T) {
		h := h.in(t)
		h.shell("mv " + host.PoolsDir + " " + away)
		h.reloadFails()
		h.untouched(before)
		if out := h.must("poolctl", "reload", "--accept-empty"); !strings.Contains(out, "in force") {
			t.Errorf("poolctl reload --accept-empty: %s", out)
		}
		h.waitGone("kept")
		h.must("poolctl", "check")
		h.reload()
		h.must("systemctl", "restart", host.ManagerUnit)
		h.noProblems()
		h.shell("mv " + away + " " + host.PoolsDir)
		h.reload()
		h.wait("kept", isReady)
	})
	t.Run("an_empty_config_is_meant", func(t *testing.T) {
		h := h.in(t)
		h.write(host.ConfigFile, "")
		h.reloadFails() // the policy refuses pools without a GPU
		h.wait("kept", inState("refused"), failsWith("POLICY_DENIED"))
		h.noProblems()
		h.eventually(func(ctx context.Context) error {
			running, err := h.Processes(ctx)
			if err == nil && len(running) > 0 {
				err = fmt.Errorf("there runs %v", running)
			}
			return err
		})
	})
}
