package api

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestPlantedSecrets: what callers send as a secret, in a header, in the address or in a body, is
// neither logged at any level nor sent back.
func TestPlantedSecrets(t *testing.T) {
	const plant = "PLANTED0a1b2c3d4e5f"
	h := serve(t, Settings{TokenFile: tokenFile(t, plant+"0123456789abcdef")}, units{})
	h.reg.Put(registrytest.Llama())
	for _, path := range []string{"/v1/pools", "/v1/pools/llama3-8b", "/nowhere"} {
		for _, headers := range [][]string{
			{"Authorization", "Bearer " + plant + "0123456789abcdef"},
			{"Authorization", "Bearer " + plant + "wrong"},
			{"Authorization", "Basic " + plant},
			{"X-Api-Key", plant}, {"Cookie", "session=" + plant}, {"Proxy-Authorization", "Bearer " + plant},
		} {
			if r := h.getTCP(path+"?access_token="+plant, headers...); strings.Contains(r.body, plant) {
				t.Errorf("%s, %s: %s", path, headers[0], r.body)
			}
			if r := h.getTCP(path, headers...); strings.Contains(r.body, plant) {
				t.Errorf("%s, %s: %s", path, headers[0], r.body)
			}
		}
	}
	log := h.log.String()
	if strings.Count(log, "\n") < 7 {
		t.Errorf("few lines: %s", log)
	}
	if at := strings.Index(log, plant); at >= 0 {
		t.Errorf("…%s…", log[max(0, at-200):at+len(plant)])
	}
}
