package api

import (
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestStatusRoutes: clients ask for a pool's status by either method and under three prefixes.
func TestStatusRoutes(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	want := h.get("/v1/pools/llama3-8b/status").body
	for _, prefix := range []string{"", "/v1", "/v2"} {
		url := "http://socket" + prefix + "/pools/llama3-8b/status"
		t.Run("prefix"+strings.ReplaceAll(prefix, "/", "_"), func(t *testing.T) {
			for name, r := range map[string]reply{
				"GET":                       h.do(h.overSocket(), http.MethodGet, url),
				"POST with an empty object": h.send(http.MethodPost, url, "{}"),
				"POST without a body":       h.do(h.overSocket(), http.MethodPost, url),
				"POST with a spaced, typed one": h.ask(h.overSocket(), http.MethodPost, url, " { }\n",
					"Content-Type", "application/json; charset=utf-8"),
			} {
				if r.status != http.StatusOK || r.body != want {
					t.Errorf("%s: %d %s, want %s", name, r.status, r.body, want)
				}
			}
		})
	}
	t.Run("a_body_with_a_field_is_refused", func(t *testing.T) {
		h.send(http.MethodPost, "http://socket/pools/llama3-8b/status", `{"x":1}`).wantError(t, 400, "INVALID_PARAMS")
	})
	t.Run("an_unknown_pool_has_error_beside_message", func(t *testing.T) {
		r := h.send(http.MethodPost, "http://socket/pools/absent/status", "{}")
		r.wantError(t, 404, "POOL_NOT_FOUND")
		if r.json["error"] != "pool absent not found" || r.json["message"] != r.json["error"] {
			t.Errorf("%s", r.body)
		}
	})
	t.Run("logged_as_a_read", func(t *testing.T) {
		h.logged(`"method":"POST"`, `"path":"/v2/pools/llama3-8b/status"`, `"level":"DEBUG"`)
	})
}

// TestStatusNeedsOnlyReading: a user who may not change anything asks by POST all the same.
func TestStatusNeedsOnlyReading(t *testing.T) {
	h := newServer(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	for _, rt := range h.server.routes {
		if strings.HasSuffix(rt.path, "/status") && rt.needs != accessRead {
			t.Errorf("%s %s needs %d", rt.method, rt.path, rt.needs)
		}
	}
}

// TestAliases: each alias does what its /v1/ route does, and needs the same rights.
func TestAliases(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	needs := make(map[string]access)
	for _, rt := range h.server.routes {
		needs[rt.method+" "+rt.path] = rt.needs
	}
	for path, others := range aliases {
		for _, other := range others {
			t.Run(strings.ReplaceAll(other, "/", "_"), func(t *testing.T) {
				for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
					a, served := needs[method+" "+path]
					if b, also := needs[method+" "+other]; also != served || a != b {
						t.Errorf("%s: served %t and %t, needs %d and %d", method, served, also, a, b)
					}
					if !served {
						continue
					}
					at := func(p string) string { return "http://socket" + strings.Replace(p, "{id}", "llama3-8b", 1) }
					body := "{}"
					if strings.HasSuffix(path, "/preload") {
						body = `{"prepared":{"binary_path":"/usr/bin/x"}}`
					}
					want, got := h.send(method, at(path), body), h.send(method, at(other), body)
					if got.status != want.status || got.body != want.body || got.status/100 != 2 {
						t.Errorf("%s: %d %s, want %d %s", method, got.status, got.body, want.status, want.body)
					}
				}
			})
		}
	}
}
