package api

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestKeptAnswersAreNeverOld: what is kept encoded is what the registry holds, after each kind of
// write.
func TestKeptAnswersAreNeverOld(t *testing.T) {
	h := serve(t, Settings{}, units{})
	for _, p := range registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()}) {
		h.reg.Put(p)
	}
	h.reg.SetDevices(registrytest.Devices())
	h.reg.Put(registry.Pool{ID: "p"})
	for _, c := range []struct {
		name, path, want string
		write            func()
	}{
		{"a_new_status", "/v1/pools/p/health", `"slots_total":7`, func() { h.reg.Put(registry.Pool{ID: "p", SlotsTotal: 7}) }},
		{"of_the_other_path", "/v1/pools/p/status", `"slots_total":8`, func() { h.reg.Put(registry.Pool{ID: "p", SlotsTotal: 8}) }},
		{"a_heartbeat", "/v1/pools/p/health", `"last_heartbeat_ms":9000`, func() {
			h.reg.Put(registry.Pool{ID: "p", SlotsTotal: 8, LastHeartbeat: time.Unix(9, 0)})
		}},
		{"a_lease", "/v1/pools/gemma/health", `"active_leases":3`, func() {
			h.reg.CountLeases(func(string, string) int { return 3 })
			h.reg.LeasesChanged("gemma")
		}},
		{"memory_of_a_device", "/v1/pools/gemma/health", `"vram_free_bytes":12345`, func() {
			d := registrytest.Devices()
			for i := range d.Devices {
				d.Devices[i].Memory = &registry.VRAM{Total: 99999, Free: 12345}
			}
			h.reg.SetDevices(d)
		}},
		{"a_removal", "/v1/pools/p/health", `POOL_NOT_FOUND`, func() { h.reg.Remove("p") }},
		{"another_pool_of_that_name", "/v1/pools/p/health", `"slots_total":1,`, func() { h.reg.Put(registry.Pool{ID: "p", SlotsTotal: 1}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			if body := h.get(c.path).body; strings.Contains(body, c.want) {
				t.Fatalf("%s before the write: %s", c.want, body)
			}
			c.write()
			for range 2 { // encoded, and kept
				if body := h.get(c.path).body; !strings.Contains(body, c.want) {
					t.Errorf("no %s in %s", c.want, body)
				}
			}
		})
	}
}

// TestKeptAnswersAreBounded: more pools than are kept, each answered as itself.
func TestKeptAnswersAreBounded(t *testing.T) {
	h := serve(t, Settings{}, units{})
	const pools = answerCount + answerCount/4
	for i := range pools {
		h.reg.Put(registry.Pool{ID: fmt.Sprintf("p%d", i), SlotsTotal: i})
	}
	for range 2 {
		for i := range pools {
			if body := h.get(fmt.Sprintf("/v1/pools/p%d/health", i)).body; !strings.Contains(body,
				fmt.Sprintf(`"slots_total":%d,`, i)) {
				t.Fatalf("p%d: %s", i, body)
			}
		}
	}
}

// TestListsHaveTags: a caller that sends the tag of its list gets no body until the list changes.
func TestListsHaveTags(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	for _, path := range []string{"/v1/pools", "/v1/devices", "/v1/capabilities", "/v1/downloads",
		"/v1/pools/llama3-8b/leases"} {
		t.Run(strings.Trim(path, "/"), func(t *testing.T) {
			tag := h.get(path).header.Get("ETag")
			if len(tag) < 10 {
				t.Fatalf("the tag is %q", tag)
			}
			for given, status := range map[string]int{tag: 304, "W/" + tag: 304, `"x", ` + tag: 304, "*": 304, `"x"`: 200,
				strings.Trim(tag, `"`): 200, "": 200} {
				r := h.get(path, "If-None-Match", given)
				if r.status != status || (r.body == "") != (status == 304) || r.header.Get("ETag") != tag {
					t.Errorf("If-None-Match: %s: %d, %d bytes, tag %s", given, r.status, len(r.body),
						r.header.Get("ETag"))
				}
			}
		})
	}
	before := h.get("/v1/pools").header.Get("ETag")
	h.reg.Put(registry.Pool{ID: "another", State: registry.StateStopped})
	if r := h.get("/v1/pools", "If-None-Match", before); r.status != 200 || !strings.Contains(r.body, "another") {
		t.Errorf("after a change: %d %s", r.status, r.body)
	}
}
