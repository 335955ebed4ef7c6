//go:build machine

package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestEngineThatCannotBeAsked: a real llama-server with a key answers neither for its slots nor for
// its requests. It has one slot, and a drain waits for the deadline.
func TestEngineThatCannotBeAsked(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("a", poolFile{keys: append(slicesWithout(llama().keys, "slots"), `args = ["--api-key", "sk-x"]`)})
	h.reload()
	h.wait("a", isReady)
	if p := h.wait("a", isReady); p.SlotsTotal != 1 {
		t.Errorf("%d slots, want one: %s", p.SlotsTotal, p)
	}
	if out := h.must("poolctl", "status", "a"); !strings.Contains(out,
		"the engine does not report its number of slots (/props: status 401)") {
		t.Errorf("poolctl status:\n%s", out)
	}
	h.answer(201, "POST", "/v1/pools/a/leases", `{"holder":"test","ttl_ms":1000}`)
	time.Sleep(1100 * time.Millisecond)
	began := time.Now()
	out := h.shell("poolctl drain a --deadline 4s --wait 2>&1 || true")
	if took := time.Since(began); took < 4*time.Second || !strings.Contains(out, "DRAIN_TIMEOUT") {
		t.Errorf("drained after %s: %s", took, out)
	}
	h.wait("a", inState("stopped"), failsWith("DRAIN_TIMEOUT"))
}

// slicesWithout returns the keys of a pool file but one.
func slicesWithout(keys []string, name string) []string {
	var out []string
	for _, k := range keys {
		if !strings.HasPrefix(k, name+" ") {
			out = append(out, k)
		}
	}
	return out
}
