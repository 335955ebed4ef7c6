//go:build machine

package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/fakenvml"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestGPUXids: what the driver reports of an error decides which engines it stops. Those that need
// a reset are TestGPUHealth's.
func TestGPUXids(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Forky)
	h.pool("a", onGPU("0", gib))
	h.pool("b", onGPU("1", gib))
	h.pool("cpu", stub())
	h.reload()
	for _, id := range []string{"a", "b", "cpu"} {
		h.wait(id, isReady)
	}

	// The event has no process: the engine, if it is hit at all, ends by itself or reports it in
	// its log.
	t.Run("of_an_application_stops_nobody_else", func(t *testing.T) {
		h := h.in(t)
		before := h.engines()
		h.logs(host.ManagerUnit, "GPU error: Xid 31", func() { h.gpu("xid 0 31") })
		h.health(0, "healthy")
		h.wait("a", isReady)
		h.untouched(before)
	})
	t.Run("of_a_warning_is_shown_and_stops_nobody", func(t *testing.T) {
		h := h.in(t)
		before := h.engines()
		h.gpu("xid 1 63")
		h.health(1, "degraded")
		h.wait("b", isReady)
		h.untouched(before)
	})
	// A GPU that fell off the bus is lost for the driver until a new enumeration.
	t.Run("of_the_host_stops_every_pool_with_a_gpu", func(t *testing.T) {
		h := h.in(t)
		cpu := h.engine("cpu")
		// Only samples after the error prove a return: after a restart of NVML, samples later than
		// the Xid have found the GPU lost.
		h.logs(host.HelperUnit, "restarting NVML", func() { h.gpu("lose 0"); h.gpu("xid 0 79") })
		for i, id := range []string{"a", "b"} {
			p := h.wait(id, inState("waiting"), failsWith("GPU_UNAVAILABLE"), says("Xid 79"))
			for _, gpu := range []string{fakenvml.UUID(i), fakenvml.UUID(0)} { // its own, and the one with the fault
				if !strings.Contains(p.LastError, gpu) {
					t.Errorf("%s has the error %s, which does not name %s", id, p.LastError, gpu)
				}
			}
			h.health(i, "host")
		}
		h.wait("cpu", isReady)
		if now := h.engine("cpu"); now != cpu {
			t.Errorf("the pool without a GPU was touched: %+v, and before %+v", now, cpu)
		}
		h.gpu("restore 0")
		h.wait("a", isReady)
		h.wait("b", isReady)
		h.health(0, "healthy")
	})
}

// says is a pool whose last error has a text.
func says(text string) condition {
	return condition{"last_error with " + text, func(p host.Pool) bool { return strings.Contains(p.LastError, text) }}
}

// logs does something and waits until a unit has logged a text since: other tests used the machine
// before.
func (s *site) logs(unit, text string, do func()) {
	s.t.Helper()
	count := func(ctx context.Context) (int, error) {
		log, err := s.Shell(ctx, "journalctl -q -o cat -u "+unit)
		return strings.Count(log, text), err
	}
	ctx, cancel := s.within()
	defer cancel()
	before, err := count(ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	do()
	s.eventually(func(ctx context.Context) error {
		now, err := count(ctx)
		if err == nil && now <= before {
			err = fmt.Errorf("%s did not log %q", unit, text)
		}
		return err
	})
}
