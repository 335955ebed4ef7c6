//go:build machine

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/fakenvml"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// emulated is the longest that a virtual machine without hardware help takes for what others do
// within the usual patience.
const emulated = 4 * time.Minute

// TestGPUKernelAndNodes runs in a virtual machine, which has a kernel log of its own and a filter
// for device nodes.
func TestGPUKernelAndNodes(t *testing.T) {
	t.Parallel()
	h := lend(t, kind{machine.Trixie, machine.VM})
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
	// An Xid that only the kernel's log has: the driver's event was missed. journald takes the
	// first word of what a program writes there for its name.
	t.Run("the_kernels_log_alone_is_enough", func(t *testing.T) {
		h := h.in(t)
		h.shell(`echo "<3>kernel: NVRM: Xid (PCI:0000:41:00): 95, pid='<unknown>', name=<unknown>, Uncontained memory error" >/dev/kmsg`)
		p := h.waitFor(emulated, "a", inState("waiting"), failsWith("GPU_UNAVAILABLE"))
		if !strings.Contains(p.LastError, "Xid 95") || !strings.Contains(p.LastError, fakenvml.UUID(0)) {
			t.Errorf("last_error %s", p.LastError)
		}
		h.waitFor(emulated, "a", isReady) // the driver requires no action, so the GPU is used again
		if metrics := h.shell("curl -sS --unix-socket " + host.Socket +
			" http://localhost/metrics | grep ^driver_reset_events_total"); !strings.Contains(metrics,
			fakenvml.UUID(0)) {
			t.Errorf("metrics: %s", metrics)
		}
	})
}
