package obtain

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// TestPeers: hosts of the fleet that the policy allows are in the request and in the unit's fence,
// with their credentials; others, and those without an address, are left out and the download is as
// if there were none.
func TestPeers(t *testing.T) {
	const model = "hf:acme/tiny/tiny.gguf"
	there := []string{"https://gpu1.example:9200", "http://198.51.100.7:9200"}
	for _, c := range []struct {
		name       string
		model      string
		set        func(s *egress.Settings)
		peers      []string
		unresolved string
		want       string // peers, and addresses that may be connected to
	}{
		{"allowed", model, nil, there, "",
			"https://gpu1.example:9200 http://198.51.100.7:9200 | 198.51.100.7 203.0.113.1 | peers-token"},
		{"off", model, func(s *egress.Settings) { s.Peers = false }, there, "", " | 203.0.113.1 | "},
		{"one_is_not_allowed", model, func(s *egress.Settings) {
			s.AllowedHosts = []string{"hub.example", "198.51.100.7"}
		}, there, "", "http://198.51.100.7:9200 | 198.51.100.7 203.0.113.1 | peers-token"},
		{"any_host_is_allowed", model, func(s *egress.Settings) { s.Egress, s.AllowedHosts = egress.Allow, nil },
			there, "", "https://gpu1.example:9200 http://198.51.100.7:9200 | 198.51.100.7 203.0.113.1 | peers-token"},
		{"one_has_no_address", model, nil, there, "gpu1.example",
			"http://198.51.100.7:9200 | 198.51.100.7 203.0.113.1 | peers-token"},
		{"a_credential_is_missing", model, func(s *egress.Settings) { s.PeersToken += ".gone" }, there[1:], "",
			"http://198.51.100.7:9200 | 198.51.100.7 203.0.113.1 | "},
		{"no_host_has_it", model, nil, nil, "", " | 203.0.113.1 | "},
		{"no_urls", model, nil, []string{"", "gpu1", "https://u:p@gpu1.example", "%"}, "", " | 203.0.113.1 | "},
		{"very_many", model, nil, slices.Repeat(there[1:], 99), "", strings.Repeat("http://198.51.100.7:9200 ", 3) +
			"http://198.51.100.7:9200 | 198.51.100.7 203.0.113.1 | peers-token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.peers, h.unresolved = c.peers, []string{c.unresolved}
				h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
					return finish(t, r, print)
				}
				s := h.settings()
				s.Peers, s.PeersToken = true, filepath.Join(h.dir, "token")
				s.AllowedHosts = []string{"hub.example", "*.example", "198.51.100.7"}
				if err := os.WriteFile(s.PeersToken, []byte("secret"), 0o600); err != nil {
					t.Fatal(err)
				}
				if c.set != nil {
					c.set(&s)
				}
				if _, err := h.start(s).Obtain(t.Context(), want(t, c.model), quiet); err != nil {
					t.Fatal(err)
				}
				if len(h.requests) != 1 {
					t.Fatalf("%d downloads", len(h.requests))
				}
				if got := reached(h); got != c.want {
					t.Errorf("peers, addresses and credentials are\n%s\nwant\n%s", got, c.want)
				}
			})
		})
	}
}

// reached is what the only download of a host asks, what it may connect to, and its credentials.
func reached(h *host) string {
	var to, names []string
	for _, a := range value(h.props[0], "IPAddressAllow").([]systemd.AddressPrefix) {
		to = append(to, fmt.Sprintf("%d.%d.%d.%d", a.Address[0], a.Address[1], a.Address[2], a.Address[3]))
	}
	if v, is := value(h.props[0], "LoadCredential").([]systemd.PathString); is {
		for _, c := range v {
			names = append(names, c.First)
		}
	}
	return strings.Join(h.requests[0].Peers, " ") + " | " + strings.Join(to, " ") + " | " + strings.Join(names, " ")
}

// TestPeerBytes: what came from other hosts is counted.
func TestPeerBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			return finish(t, r, func(e wire.Event) {
				e.PeerBytes = 3
				print(e)
			})
		}
		if _, err := h.start(h.settings()).Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), quiet); err != nil {
			t.Fatal(err)
		}
		if o := h.outcomes[0]; o.Bytes != 4 || o.PeerBytes != 3 || o.Reason != "" {
			t.Errorf("%+v", o)
		}
	})
}
