//go:build machine

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// emulated is the longest that a virtual machine without hardware help takes for what others do
// within the usual patience.
const emulated = 4 * time.Minute

// TestGPUKernelAndNodes runs in a virtual machine, which has a kernel log of its own and a filter
// for device nodes.
func TestGPUKernelAndNodes(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{release: machine.Trixie, backend: machine.VM})
	h.M.Require(t, machine.BPF())
	h.loadGPUs("--gpus 2 --vram 8589934592")
	h.pool("a", onGPU("0", gib))
	h.reload()
	h.waitFor(emulated, "a", isReady)

	// Without a driver behind the major number 195, opening a node that the filter allows fails
	// with ENXIO.
	t.Run("own_node_opens_and_the_neighbours_does_not", func(t *testing.T) {
		h := h.in(t)
		look := func() {
			for node, want := range map[string]string{"nvidia0": "no such device or address",
				"nvidiactl": "no such device or address", "nvidia1": "operation not permitted"} {
				if got := h.ask("a", "/stub/open?path=/dev/"+node); !strings.Contains(got, want) {
					t.Errorf("%s: %q, want %q", node, got, want)
				}
			}
		}
		look()
		h.must("systemctl", "daemon-reload")
		look()
	})
	t.Run("attacks_of_a_local_user", func(t *testing.T) { attackedByAUser(t, h.in(t)) })
}

// attackedByAUser has an ordinary user bring the driver's words into the log of a real kernel: by
// the name of a control group in which a process runs out of memory, by the name of a process that
// breaks, and by writing to the log.
func attackedByAUser(t *testing.T, h *site) {
	before := h.engines()
	h.write("/run/attack", `set -eu
name="$1"
own="/sys/fs/cgroup$(tail -1 /proc/self/cgroup | cut -d: -f3)"
if [ "$(id -u)" = 0 ]; then # what a login gives every user: a control group of its own
	chown 4242 "$own" "$own/cgroup.procs" "$own/cgroup.subtree_control"
	exec setpriv --reuid=4242 --clear-groups sh "$0" "$name"
fi
mkdir "$own/leaf"; echo $$ >"$own/leaf/cgroup.procs"
echo +memory >"$own/cgroup.subtree_control"
mkdir "$own/$name"; echo 16M >"$own/$name/memory.max"
sh -c 'echo $$ >"$1/cgroup.procs"; exec tail /dev/zero' sh "$own/$name" || true
dir=$(mktemp -d); cp /usr/bin/perl "$dir/NVRM: Xid (PCI:"
"$dir/NVRM: Xid (PCI:" -e 'unpack("p", pack("L!", 1))' || true
logger -t kernel -p kern.err "$name" || true
`)
	name := strings.TrimSuffix(strings.ReplaceAll(xid79, "'", ""), ".")
	h.must("systemd-run", "--quiet", "--wait", "--property=Delegate=yes", "--property=MemorySwapMax=0", "sh",
		"/run/attack", name)
	h.shell("journalctl --sync")
	for _, proof := range []string{"oom.*" + `NVRM: Xid \(PCI:0000:41:00\): 79`,
		`^NVRM: Xid \(PCI:\[[0-9]+\]: segfault at`} {
		if out := h.shell("journalctl --quiet -k --output=cat --grep '" + proof + "' || true"); out == "" {
			t.Errorf("the attack did not take place: the kernel's log has no %s:\n%s", proof,
				h.shell("journalctl -k --no-pager --lines=60"))
		}
	}
	// Only root can write to the kernel's log, and that is no kernel's record either.
	h.shell(`echo "<3>kernel: ` + xid79 + `" >/dev/kmsg`)
	time.Sleep(20 * time.Second) // longer than NVML may take to answer
	for i := range 2 {
		h.health(i, "healthy")
	}
	h.waitFor(emulated, "a", isReady)
	h.untouched(before)
	if log := h.shell("journalctl --quiet --output=cat -u " + host.ManagerUnit +
		" --grep 'GPU error.*(Xid|bus)' || true"); log != "" {
		t.Errorf("the manager took a user's text for the driver's: %s", log)
	}
}
