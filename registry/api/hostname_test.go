package api

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// TestRebinding: a page whose name resolves to this host has that name as its origin, and sends
// whatever headers it likes with its requests. It is refused on every path and with every method;
// the names of this server are not.
func TestRebinding(t *testing.T) {
	h := serve(t, Settings{AuthOptional: true, TrustProxyAuth: true, HostNames: []string{"pools.example"}}, units{})
	h.reg.Put(registrytest.Llama())
	const foreign = "evil.example:9200"
	t.Run("every_path", func(t *testing.T) {
		for _, rt := range h.server.routes {
			path := strings.NewReplacer("{id}", "llama3-8b", "{lease}", "x", "{file}", "main.js", "{$}", "").
				Replace(rt.path)
			for _, more := range [][]string{nil, {"Origin", "http://" + foreign}, {"X-Forwarded-For", "127.0.0.1"},
				{"Authorization", "Bearer guessed"}} {
				r := h.overTCP(rt.method, path, "", append([]string{"Host", foreign, "Sec-Fetch-Site", "same-origin"},
					more...)...)
				r.wantError(t, 403, "FORBIDDEN")
				if !strings.Contains(r.body, "evil.example") || !strings.Contains(r.body, "host_names") {
					t.Errorf("%s %s: %s", rt.method, path, r.body)
				}
			}
		}
		h.overTCP(http.MethodGet, "/nowhere", "", "Host", foreign).wantError(t, 403, "FORBIDDEN")
	})
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		ok   bool
	}{
		{"localhost:9200", true}, {"LOCALHOST", true}, {"a.localhost", true}, {"localhost.", true}, {"127.0.0.1", true},
		{"[::1]:9200", true}, {"192.0.2.7:9200", true}, {"[2001:db8::1]:9200", true}, {"pools.example:443", true},
		{"POOLS.example.", true}, {machine, true}, {machine + ":9200", true}, {"www.pools.example", false},
		{"pools.example.evil.example", false}, {"localhost.evil.example", false}, {"127.0.0.1.evil.example", false},
		{"0x7f.1", false}, {"2130706433", false}, {machine + ".evil.example", false}, {"a:b:c", false},
	} {
		t.Run(strings.NewReplacer("[", "", "]", "").Replace(c.name), func(t *testing.T) {
			for _, path := range []string{"/health", "/"} {
				if r := h.getTCP(path, "Host", c.name); (r.status == 200) != c.ok {
					t.Errorf("%s: %d %s", path, r.status, r.body)
				}
			}
		})
	}
	t.Run("a_check_without_a_name", func(t *testing.T) {
		c, err := net.Dial("tcp", h.tcp)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "GET /health HTTP/1.0\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%+v %v", resp, err)
		}
	})
	t.Run("the_unix_socket_has_no_names", func(t *testing.T) {
		if r := h.get("/v1/pools", "Host", foreign); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
	t.Run("a_token_is_enough", func(t *testing.T) {
		h := serve(t, Settings{TokenFile: tokenFile(t, secret)}, units{})
		if r := h.getTCP("/v1/pools", "Host", "gpu1.example", "Authorization", "Bearer "+secret); r.status != 200 {
			t.Errorf("%d %s", r.status, r.body)
		}
		h.getTCP("/v1/pools", "Host", "gpu1.example", "Authorization", "Bearer x").wantError(t, 403, "FORBIDDEN")
	})
}
