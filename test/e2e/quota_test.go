//go:build machine

package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// quotaDisk is an empty ext4 with project quotas, as it is in the machine.
const quotaDisk = "/root/quota.img.gz"

// TestStateQuota runs in a virtual machine: only a file system of its own has project quotas. The
// engine's user gets state_max in the state directory and not a block more, the engine serves on,
// and the cache directory, whose file system has no quotas, is counted by the manager.
func TestStateQuota(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Forky, backend: machine.VM})
	disk := filepath.Join(t.TempDir(), "quota.img")
	made := "truncate -s 64M " + disk + " && PATH=$PATH:/usr/sbin:/sbin mke2fs -q -F -t ext4 -O quota,project" +
		" -E quotatype=prjquota " + disk + " && gzip " + disk
	if out, err := exec.Command("sh", "-c", made).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := h.M.CopyIn(t.Context(), disk+".gz", quotaDisk); err != nil {
		t.Fatal(err)
	}
	const states = "/var/lib/private/pool-engine"
	h.shell("gunzip -f " + quotaDisk + "; mkdir -p " + states + "; chmod 700 /var/lib/private; " +
		"mount -o loop,prjquota " + strings.TrimSuffix(quotaDisk, ".gz") + " " + states)
	t.Cleanup(func() {
		h.M.Shell(context.WithoutCancel(t.Context()), "umount --lazy "+states+"; rm /root/quota.img")
	})
	h.pool("a", stub().quick().table("limits", `state_max = "8M"`))
	h.reload()
	h.wait("a", isReady)
	before := h.engines()
	// writes has the engine's own user write so many MiB in one of the two directories.
	writes := func(dir string, mib int) string {
		return h.shell(fmt.Sprintf(`pid=$(systemctl show -P MainPID '%s'); user=$(stat -c %%u /proc/$pid)
nsenter -t $pid -m setpriv --reuid $user --regid $user --clear-groups sh -c \
	'dd if=/dev/zero of=%s/pool-engine/a.r0/large bs=1M count=%d 2>&1; wc -c <%[2]s/pool-engine/a.r0/large'`,
			host.EngineUnit("a"), dir, mib))
	}
	if out := writes("/var/lib", 12); !strings.Contains(out, "Disk quota exceeded") {
		t.Errorf("an engine wrote more than state_max to its state directory: %s", out)
	}
	h.wait("a", isReady)
	h.untouched(before)
	if out := writes("/var/cache", 12); strings.Contains(out, "exceeded") {
		t.Errorf("this file system has no quotas: %s", out)
	}
	// Both together are over twice the bound.
	h.waitFor(6*time.Minute, "a", inState("waiting"), failsWith("STATE_TOO_LARGE"))
	h.shell("rm /var/lib/private/pool-engine/a.r0/large /var/cache/private/pool-engine/a.r0/large")
	h.waitFor(6*time.Minute, "a", isReady)
}
