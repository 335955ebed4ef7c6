package obtain

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// TestRedirects: a host that a redirect names is pinned where the policy allows it, and the
// download goes on at once; any other is denied, with the line to change.
func TestRedirects(t *testing.T) {
	for _, c := range []struct {
		name, egress string
		allowed      []string
		to           string
		denied       bool
		hint         string
	}{
		{"below_an_allowed_name", egress.Fetch, []string{"hub.example", "*.cdn.example"}, "eu.cdn.example", false, ""},
		{"any_host", egress.Allow, nil, "far.example", false, ""},
		{"another_host", egress.Fetch, nil, "far.example", true, `allowed_hosts = ["hub.example", "far.example"]`},
		{"the_name_itself_is_not_below_it", egress.Fetch, []string{"hub.example", "*.cdn.example"}, "cdn.example", true, `"*.cdn.example", "cdn.example"]`},
		{"a_name_that_ends_alike", egress.Fetch, []string{"hub.example", "*.cdn.example"}, "evilcdn.example", true, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
					if len(r.Hosts[c.to]) == 0 {
						return failing(
							print,
							wire.Event{Reason: wire.HostDenied, Host: c.to, Message: "redirect to " + c.to},
						)
					}
					return finish(t, r, print)
				}
				s := h.settings()
				s.Egress, s.AllowedHosts = c.egress, c.allowed
				o := h.start(s)
				began := time.Now()
				_, err := o.Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), quiet)
				f := registry.AsFailure(err, "", "")
				if c.denied != (f != nil) ||
					f != nil && (f.Code != registry.CodePolicyDenied || !strings.Contains(f.Hint, c.hint)) {
					t.Fatalf("got %+v", f)
				}
				if !c.denied && time.Since(began) > 0 {
					t.Errorf("it waited for %s", time.Since(began))
				}
				// The next download has the host from the beginning.
				if !c.denied {
					if _, err := o.Obtain(t.Context(), want(t, "hf:acme/other/tiny.gguf"), quiet); err != nil ||
						len(h.requests) != 3 {
						t.Errorf("the next: %v, %d runs in all", err, len(h.requests))
					}
				}
			})
		})
	}
}

// TestPolicy: without the host's leave nothing is resolved and no unit is started.
func TestPolicy(t *testing.T) {
	for _, c := range []struct {
		name, ref string
		change    func(*egress.Settings)
		says      string
		hint      string
	}{
		{"nothing_is_downloaded", "hf:acme/tiny/tiny.gguf", func(s *egress.Settings) { s.Egress = egress.Deny }, "downloads nothing", `egress = "fetch"`},
		{"a_host_that_is_not_listed", "https://files.example/a.gguf", func(*egress.Settings) {}, "files.example", `allowed_hosts = ["hub.example", "files.example"]`},
		{"a_registry", "oci:registry.example/ai/m:v1", func(*egress.Settings) {}, "registry.example", `allowed_hosts = ["hub.example", "registry.example"]`},
		{"a_registry_with_two_hosts", "oci:docker.io/ai/m", func(*egress.Settings) {}, "index.docker.io and auth.docker.io", `"index.docker.io", "auth.docker.io"]`},
		{"a_store_that_is_not_listed", "s3://models/a.gguf", func(s *egress.Settings) {
			s.Store.Endpoint, s.AllowedHosts = "https://s3.example", []string{"hub.example"}
		}, "s3.example", `["hub.example", "s3.example"]`},
		{"the_hub_is_not_listed", "hf:acme/tiny/tiny.gguf", func(s *egress.Settings) { s.AllowedHosts = []string{"files.example"} }, "hub.example", `["files.example", "hub.example"]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				s := h.settings()
				c.change(&s)
				_, err := h.start(s).Obtain(t.Context(), want(t, c.ref), quiet)
				f := registry.AsFailure(err, "", "")
				if f == nil || f.Code != registry.CodePolicyDenied || !strings.Contains(f.Message, c.says) ||
					!strings.Contains(f.Hint, c.hint) {
					t.Errorf("got %+v", f)
				}
				if len(h.requests)+len(h.resolved) != 0 {
					t.Errorf("it resolved %v and started %v", h.resolved, h.requests)
				}
			})
		})
	}
}

// TestHostsThatFilesCameFrom: one that no longer exists does not keep a download from going on.
func TestHostsThatFilesCameFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			return finish(t, r, print)
		}
		s := h.settings()
		s.Egress = egress.Allow
		o := h.start(s)
		o.redirected("old.example")
		h.unresolved = []string{"old.example"}
		if _, err := o.Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), quiet); err != nil {
			t.Fatal(err)
		}
		h.unresolved = []string{"hub.example", "old.example"}
		_, err := o.Obtain(t.Context(), want(t, "hf:acme/other/tiny.gguf"), quiet)
		if f := registry.AsFailure(err, "", ""); f == nil ||
			!strings.Contains(f.Message, "could not resolve hub.example") {
			t.Errorf("got %v", err)
		}
	})
}
