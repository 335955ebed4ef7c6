package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
)

// TestEveryChangeIsAudited: each route that only writers may use has an operation, and no other.
func TestEveryChangeIsAudited(t *testing.T) {
	s := newServer(t, Settings{}, units{}).server
	for _, rt := range s.table(nil) {
		_, named := changes[rt.method+" "+rt.path]
		if named != (rt.needs == accessWrite) {
			t.Errorf("%s %s: operation %q, access %v", rt.method, rt.path, changes[rt.method+" "+rt.path], rt.needs)
		}
	}
}

// TestAudit: an entry for each change has who asked for what, of which pool, under which id and
// with which outcome; a refused one too, and one by another path of the same operation.
func TestAudit(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registry.Pool{ID: "a", State: registry.StateReady, Ready: true})
	id := `"message_id":"` + catalogue.ChangeRequested + `"`
	ask := func(method, path, correlation string) {
		h.ask(h.overSocket(), method, "http://socket"+path, "", correlationHeader, correlation)
	}
	ask("POST", "/v1/pools/a/drain?wait=0s", "c-drain")
	h.logged(id, `"level":"INFO"`, `"correlation_id":"c-drain"`, `"identity":"uid:`, `"operation":"drain"`,
		`"pool_id":"a"`, `"status":202`)
	ask("POST", "/v2/pools/a/reload", "c-reload")
	h.logged(id, `"correlation_id":"c-reload"`, `"operation":"reload"`, `"pool_id":"a"`)
	ask("DELETE", "/v1/pools/none", "c-none")
	h.logged(id, `"correlation_id":"c-none"`, `"operation":"unload"`, `"status":404`)
	ask("POST", "/v1/downloads", "c-bad")
	h.logged(`"correlation_id":"c-bad"`, `"operation":"download"`)
	r := h.do(http.DefaultClient, "POST", "http://"+h.tcp+"/v1/pools/a/drain", correlationHeader, "c-denied")
	r.wantError(t, 401, "MISSING_TOKEN")
	h.logged(id, `"level":"WARN"`, `"correlation_id":"c-denied"`, `"identity":"anonymous"`, `"operation":"drain"`,
		`"status":401`)
	h.get("/v1/pools", correlationHeader, "c-read")
	h.logged(`"correlation_id":"c-read"`)
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "c-read") && strings.Contains(line, "operation") {
			t.Errorf("a read is logged as a change: %s", line)
		}
	}
}

// TestLeasesAreCounted: leases have no entry each, but one a caller and minute, and at the end.
func TestLeasesAreCounted(t *testing.T) {
	h := withSlots(t, 2)
	var ids []string
	for range 2 {
		r := h.send("POST", "http://socket/v1/pools/a/leases", `{}`)
		id, _ := r.json["lease_id"].(string)
		ids = append(ids, id)
	}
	h.send("POST", "http://socket/v1/pools/a/leases", `{}`).wantError(t, 429, "SLOTS_EXHAUSTED")
	h.send("PUT", "http://socket/v1/pools/a/leases/"+ids[0], `{}`)
	h.send("DELETE", "http://socket/v1/pools/a/leases/"+ids[0], "")
	h.stop()
	h.logged(`"message_id":"`+catalogue.LeasesCounted+`"`, `"level":"INFO"`, `"identity":"uid:`, `"taken":2`,
		`"renewed":1`, `"released":1`, `"refused":1`)
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, "/leases") && !strings.Contains(line, `"level":"DEBUG"`) {
			t.Errorf("a lease has an entry: %s", line)
		}
	}
}

// TestLeaseTallyIsBounded: more callers than are kept apart are counted together.
func TestLeaseTallyIsBounded(t *testing.T) {
	var tally leaseTally
	for i := range 2 * repeatKeys {
		tally.add(string(rune('0'+i)), leaseTake, 201)
	}
	all, n := tally.take(), 0
	for _, c := range all {
		n += c.taken
	}
	if len(all) != repeatKeys+1 || n != 2*repeatKeys || all["others"].taken != repeatKeys {
		t.Errorf("%d callers, %d leases", len(all), n)
	}
	if len(tally.take()) != 0 {
		t.Error("counted again")
	}
}
