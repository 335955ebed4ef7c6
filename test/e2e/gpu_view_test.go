//go:build machine

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/fakenvml"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestGPUIsTold: what a pool's GPU has is the same to placement, to Prometheus and to people, and a
// change of its health is an event with one line in the log.
func TestGPUIsTold(t *testing.T) {
	t.Parallel()
	h := withGPUs(t, machine.Forky)
	h.pool("a", onGPU("1", 3*gib))
	h.reload()
	h.wait("a", isReady)
	uuid := fakenvml.UUID(1)
	t.Run("to_placement", func(t *testing.T) {
		h.eventually(func(ctx context.Context) error {
			answer, err := h.Get(ctx, "/v1/pools/a/health")
			if err != nil {
				return err
			}
			var body struct {
				Total   uint64   `json:"vram_total_bytes"`
				Free    uint64   `json:"vram_free_bytes"`
				Compute string   `json:"compute_capability"`
				Mask    []string `json:"device_mask"`
			}
			if err := json.Unmarshal(answer.Body, &body); err != nil {
				return err
			}
			if body.Total != 8*gib || body.Free != 8*gib-3*gib-512<<20 || body.Compute == "" || len(body.Mask) != 1 ||
				body.Mask[0] != uuid {
				return fmt.Errorf("not yet: %s", answer.Body)
			}
			return nil
		})
	})
	t.Run("to_prometheus", func(t *testing.T) {
		labels := `\{device="` + uuid + `",engine="llamacpp",engine_version="[^"]+",pool_id="a",replica_id="r0"\} `
		for _, want := range []string{`vram_used_bytes` + labels + `3\.221225472e\+09`, `gpu_utilization` + labels + `\d+`,
			`vram_total_bytes\{device="` + uuid + `"\} 8\.589934592e\+09`, `gpu_health\{device="` + uuid + `",health="healthy"\} 1`, `gpu_facts_age_seconds [0-9.e-]+`} {
			h.metric(regexp.MustCompile(`(?m)^` + want + `$`))
		}
	})
	t.Run("to_people", func(t *testing.T) {
		if out := h.must("poolctl", "status", "a"); !strings.Contains(out, uuid) ||
			!strings.Contains(out, "free of 8.0 GiB") {
			t.Errorf("poolctl status a:\n%s", out)
		}
		if out := h.must("poolctl", "devices", "--processes"); !strings.Contains(out, host.EngineUnit("a")) ||
			!strings.Contains(out, "3.0 GiB") {
			t.Errorf("poolctl devices --processes:\n%s", out)
		}
	})
	t.Run("a_change_of_health", func(t *testing.T) {
		lines := func() int {
			// no line is an exit status of 1
			out, _ := h.Shell(t.Context(), `journalctl -q -u pool-managerd.service -o cat --grep '^GPU 1 .* needs a reset: '`)
			return strings.Count(out, "\n")
		}
		before := lines()
		h.gpu("recovery 1 1")
		h.gpu("xid 1 95")
		h.wait("a", inState("waiting"), failsWith("GPU_UNAVAILABLE"))
		for _, want := range []string{`gpu_health\{device="` + uuid + `",health="needs-reset"\} 1`, `gpu_health\{device="` + uuid + `",health="healthy"\} 0`,
			`readiness_transitions_total\{reason="gpu",to="unready"\} [1-9]\d*`, `driver_reset_events_total\{device="` + uuid + `",kind="[^"]+"\} [1-9]\d*`} {
			h.metric(regexp.MustCompile(`(?m)^` + want + `$`))
		}
		if got := lines() - before; got != 1 {
			t.Errorf("%d lines in the log about one change", got)
		}
		h.gpu("recovery 1 0")
		h.wait("a", isReady)
	})
}

// metric waits until a scrape has a line.
func (s *site) metric(line *regexp.Regexp) {
	s.t.Helper()
	s.eventually(func(ctx context.Context) error {
		scrape, err := s.Get(ctx, "/metrics")
		if err == nil && !line.Match(scrape.Body) {
			err = fmt.Errorf("no %s in the metrics", line)
		}
		return err
	})
}
