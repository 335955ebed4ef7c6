//go:build machine

package e2e

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
	"github.com/pool-managerd/pool-managerd/test/machine"
)

// TestEngineThatLies: impossible answers of an engine are shown and not used, and its pool serves.
func TestEngineThatLies(t *testing.T) {
	t.Parallel()
	h := installed(t, machine.Forky)
	lies := []string{"--lie-props", `{"total_slots":9223372036854775807}`, "--lie-metrics",
		"llamacpp:requests_deferred 18446744073709551615"}
	h.pool("liar", stub(lies...).quick())
	h.pool("honest", stub().with("slots = 3").quick())
	h.reload()
	h.wait("honest", isReady)
	h.wait("liar", isReady)
	h.metric(regexp.MustCompile(`(?m)^engine_answers_refused_total\{pool_id="liar",subject="queue"\} 1$`))
	h.metric(regexp.MustCompile(`(?m)^engine_answers_refused_total\{pool_id="liar",subject="slots"\} 1$`))
	h.metric(regexp.MustCompile(`(?m)^slots_total\{[^}]*pool_id="liar"[^}]*\} 1$`))
	out := h.must("poolctl", "status", "liar")
	for _, want := range []string{"1 free of 1", "is not believed: slots: it is", "is not believed: queue: "} {
		if !strings.Contains(out, want) {
			t.Errorf("poolctl status has no %q:\n%s", want, out)
		}
	}
	var p struct {
		Replicas []struct {
			Refused []string `json:"refused_answers"`
		} `json:"replicas"`
	}
	for id, want := range map[string]int{"liar": 2, "honest": 0} {
		answer := h.shell("curl -sS --unix-socket " + host.Socket + " http://localhost/v1/pools/" + id)
		p.Replicas = nil
		if err := json.Unmarshal([]byte(answer), &p); err != nil || len(p.Replicas) != 1 ||
			len(p.Replicas[0].Refused) != want {
			t.Errorf("%s: %v, %s", id, err, answer)
		}
	}
}
