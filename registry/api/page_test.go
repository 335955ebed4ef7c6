package api

import (
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/page"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestWebPage: the page is served to a browser that has no token yet, with the headers that keep
// everything else out of it, and again only when it has changed.
func TestWebPage(t *testing.T) {
	h := serve(t, Settings{TokenFile: tokenFile(t, secret)}, units{})
	for path, kind := range map[string]string{"/": "text/html; charset=utf-8", "/page/main.js": "text/javascript; charset=utf-8",
		"/page/page.css": "text/css; charset=utf-8", "/page/icon.svg": "image/svg+xml"} {
		r := h.getTCP(path)
		if r.status != 200 || r.header.Get("Content-Type") != kind || r.body == "" {
			t.Fatalf("%s: %d %v", path, r.status, r.header)
		}
		for name, want := range map[string]string{"Content-Security-Policy": page.Policy, "X-Content-Type-Options": "nosniff",
			"X-Frame-Options": "DENY", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
			"Cross-Origin-Resource-Policy": "same-origin", "Cross-Origin-Opener-Policy": "same-origin"} {
			if r.header.Get(name) != want {
				t.Errorf("%s: %s is %q, want %q", path, name, r.header.Get(name), want)
			}
		}
		tag := r.header.Get("ETag")
		if r := h.getTCP(path, "If-None-Match", tag); r.status != 304 || r.body != "" || r.header.Get("ETag") != tag {
			t.Errorf("%s with its tag: %d %q", path, r.status, r.body)
		}
	}
	h.getTCP("/v1/pools").wantError(t, 401, "MISSING_TOKEN")
}

// TestAccess: a caller learns what it may do, and nothing of others.
func TestAccess(t *testing.T) {
	tokens := tokenFile(t, secret+" name=all\nread name=reader scope=read\nsome name=some scope=read pools=a,b\n")
	h := serve(t, Settings{TokenFile: tokens}, units{})
	for token, want := range map[string]string{
		secret: `"may":"write","pools":null}`, "read": `"may":"read","pools":null}`,
		"some": `"may":"read","pools":["a","b"]}`,
	} {
		r := h.getTCP("/v1/access", "Authorization", "Bearer "+token)
		if r.status != 200 || !strings.HasSuffix(strings.TrimSpace(r.body), want) {
			t.Errorf("%d %s, want %s", r.status, r.body, want)
		}
	}
	h.getTCP("/v1/access").wantError(t, 401, "MISSING_TOKEN")
	if r := h.get("/v1/access"); !strings.Contains(r.body, `"identity":"uid:`) {
		t.Error(r.body)
	}
}

// TestHistory: the states of a pool are kept, those of a pool that is gone are not.
func TestHistory(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	h.reg.Put(registry.Pool{ID: "llama3-8b", State: registry.StateBackoff,
		LastError: registry.Fail(registry.CodeCUDAOOM, "m", "h")})
	r := h.get("/v1/pools/llama3-8b/history")
	if r.status != 200 || !strings.Contains(r.body, `"state":"backoff","reason":"the pool is backoff","code":"CUDA_OOM"`) ||
		!strings.Contains(r.body, `"points":[]`) {
		t.Errorf("%d %s", r.status, r.body)
	}
	h.reg.Remove("llama3-8b")
	h.get("/v1/pools/llama3-8b/history").wantError(t, 404, "POOL_NOT_FOUND")
}
