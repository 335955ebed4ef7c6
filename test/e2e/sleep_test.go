//go:build machine

package e2e

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestFieldCase13: a real llama-server that sleeps when no one uses it sleeps on under the manager,
// is shown so, wakes for a request, sleeps again, and is drained without being woken.
func TestFieldCase13(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	h.pool("a", llama().with(`args = ["--sleep-idle-seconds", "4"]`).
		table("health", `interval = "500ms"`, `timeout = "500ms"`, `generate_interval = "2s"`))
	h.reload()
	asleep := func(want bool) condition {
		return condition{map[bool]string{true: "asleep", false: "awake"}[want], func(p host.Pool) bool {
			return p.Ready && p.Replicas[0].Asleep == want
		}}
	}
	p := h.wait("a", isReady, condition{"a context", func(p host.Pool) bool { return p.Replicas[0].Ctx >= 128 }})
	h.wait("a", asleep(true))
	for until := time.Now().Add(8 * time.Second); time.Now().Before(until); time.Sleep(time.Second) {
		if now := h.wait("a", isReady); !now.Replicas[0].Asleep || now.Replicas[0].PID != p.Replicas[0].PID {
			t.Fatalf("woken: %s", now)
		}
	}
	out := h.must("poolctl", "status", "a")
	for _, part := range []string{"ready (asleep)", "the engine sleeps; the next request wakes it", "Context:"} {
		if !strings.Contains(out, part) {
			t.Errorf("poolctl status lacks %q:\n%s", part, out)
		}
	}
	h.answer(201, "POST", "/v1/pools/a/leases", `{"holder":"test","ttl_ms":3000}`)
	ctx, cancel := h.within()
	defer cancel()
	a, err := h.Engine(ctx, "a", http.MethodPost, "/completion", strings.NewReader(`{"prompt":"a","n_predict":1}`))
	if err != nil || a.Status != http.StatusOK {
		t.Fatalf("a completion: %v, %+v", err, a)
	}
	h.wait("a", asleep(false))
	h.wait("a", asleep(true))
	began := time.Now()
	h.must("poolctl", "drain", "a", "--deadline", "30s", "--wait")
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("drained after %s", took)
	}
}
