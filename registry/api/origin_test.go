package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry/api/sockdiag"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// overTCP asks over TCP, once for each connection.
func (h *host) overTCP(method, path, body string, header ...string) reply {
	h.t.Helper()
	return h.ask(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, method, "http://"+h.tcp+path, body,
		header...)
}

// TestWebPages: what a browser sends for a page of another site is refused, reads too; what
// programs and a page of the same origin send is not.
func TestWebPages(t *testing.T) {
	h := serve(t, Settings{AuthOptional: true}, units{})
	h.reg.Put(registrytest.Llama())
	for _, c := range []struct {
		name   string
		header []string
		status int
	}{
		{"a_program", nil, 200},
		{"an_address_typed_by_hand", []string{"Sec-Fetch-Site", "none"}, 200},
		{"a_page_of_the_same_origin", []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + h.tcp}, 200},
		{"a_page_behind_tls_of_the_same_origin", []string{"Origin", "https://" + h.tcp}, 200},
		{"another_site", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another_port_of_the_same_site", []string{"Sec-Fetch-Site", "same-site"}, 403},
		{"another_origin", []string{"Origin", "http://evil.example"}, 403},
		{"another_port", []string{"Origin", "http://127.0.0.1:1"}, 403},
		{"an_opaque_origin", []string{"Origin", "null"}, 403},
		{"an_extension", []string{"Origin", "moz-extension://0d1a"}, 403},
	} {
		for _, path := range []string{"/health", "/metrics", "/v1/pools", "/v1/events?follow=false",
			"/pools/llama3-8b/status"} {
			t.Run(c.name+strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
				for _, r := range []reply{h.getTCP(path, c.header...), h.get(path, hostless(c.header, h.tcp)...)} {
					if r.status != c.status {
						t.Errorf("%d %s, want %d", r.status, r.body, c.status)
					}
					if c.status == 403 {
						r.wantError(t, 403, "FORBIDDEN")
					}
				}
			})
		}
	}
	t.Run("asking_before", func(t *testing.T) {
		r := h.overTCP(http.MethodOptions, "/v1/pools/llama3-8b/restart", "", "Origin", "http://evil.example",
			"Access-Control-Request-Method", "POST")
		r.wantError(t, 403, "FORBIDDEN")
		for name := range r.header {
			if strings.HasPrefix(name, "Access-Control-") {
				t.Errorf("%s is sent", name)
			}
		}
	})
	t.Run("a_token_does_not_help_a_page", func(t *testing.T) {
		h := serve(t, Settings{TokenFile: tokenFile(t, secret)}, units{})
		h.getTCP("/v1/pools", "Authorization", "Bearer "+secret, "Origin", "http://evil.example").wantError(t, 403,
			"FORBIDDEN")
	})
}

// hostless has a request over the unix socket name the host that a page of the same origin would.
func hostless(header []string, host string) []string {
	return append([]string{"Host", host}, header...)
}

// TestForms: without a token a POST needs a content type, or a header, that a form of a web page
// cannot send. What only reads is answered as clients send it.
func TestForms(t *testing.T) {
	const form, text, object = "application/x-www-form-urlencoded", "text/plain", "application/json"
	optional := serve(t, Settings{AuthOptional: true}, units{})
	token := serve(t, Settings{TokenFile: tokenFile(t, secret)}, units{})
	for _, h := range []*host{optional, token} {
		h.reg.Put(registrytest.Llama())
	}
	const restart, status = "/v1/pools/llama3-8b/restart", "/pools/llama3-8b/status"
	for _, c := range []struct {
		name       string
		h          *host
		path, body string
		header     []string
		status     int
	}{
		{"json", optional, restart, "", []string{"Content-Type", object}, 202},
		{"json_with_a_charset", optional, restart, "{}", []string{"Content-Type", object + "; charset=utf-8"}, 202},
		{"a_form_without_a_field", optional, restart, "", []string{"Content-Type", form}, 415},
		{"a_form_as_text", optional, restart, "{}", []string{"Content-Type", text}, 415},
		{"nothing", optional, restart, "", nil, 415},
		{"an_explicit_header", optional, restart, "", []string{"X-Requested-With", "curl"}, 202},
		{"a_correlation_id", optional, restart, "", []string{correlationHeader, "a"}, 202},
		{"a_token", token, restart, "", []string{"Authorization", "Bearer " + secret}, 202},
		{"status/json", optional, status, "{}", []string{"Content-Type", object}, 200},
		{"status/without_a_content_type", optional, status, "{}", nil, 200},
		{"status/nothing_at_all", optional, status, "", nil, 200},
		{"status/a_form", optional, status, "{}", []string{"Content-Type", form}, 415},
	} {
		t.Run(c.name, func(t *testing.T) {
			if r := c.h.overTCP(http.MethodPost, c.path, c.body, c.header...); r.status != c.status {
				t.Errorf("%d %s, want %d", r.status, r.body, c.status)
			}
		})
	}
	t.Run("the_unix_socket_has_no_browser", func(t *testing.T) {
		if r := optional.do(optional.overSocket(), http.MethodPost, "http://socket"+restart); r.status != 202 {
			t.Errorf("%d %s", r.status, r.body)
		}
	})
}

// TestEngines are refused on TCP, whatever the settings say and whatever they ask for.
func TestEngines(t *testing.T) {
	for name, settings := range map[string]Settings{
		"tokens_are_optional": {AuthOptional: true}, "with_the_token": {TokenFile: tokenFile(t, secret)},
	} {
		t.Run(name, func(t *testing.T) {
			h := serve(t, settings, units{})
			h.peers.set(sockdiag.Owner{UID: 61184, Cgroup: 7}, true, nil)
			for _, path := range []string{"/health", "/v1/pools", "/metrics", "/nowhere"} {
				r := h.getTCP(path, "Authorization", "Bearer "+secret)
				r.wantError(t, 403, "FORBIDDEN")
				if !strings.Contains(r.body, "engines, and downloads for them, may not call the API") {
					t.Error(r.body)
				}
			}
			h.logged(`"identity":"engine"`)
			h.peers.set(sockdiag.Owner{UID: 1000}, false, nil)
			if r := h.getTCP("/health"); r.status != 200 {
				t.Errorf("another process: %d", r.status)
			}
		})
	}
	t.Run("one_that_is_not_known_needs_a_token", func(t *testing.T) {
		h := serve(t, Settings{AuthOptional: true, TokenFile: tokenFile(t, secret)}, units{})
		h.peers.set(sockdiag.Owner{}, false, sockdiag.ErrNotHere)
		r := h.getTCP("/v1/pools")
		r.wantError(t, 401, "MISSING_TOKEN")
		if !strings.Contains(r.body, "not known") {
			t.Error(r.body)
		}
		if r := h.getTCP("/v1/pools", "Authorization", "Bearer "+secret); r.status != 200 {
			t.Errorf("with the token: %d", r.status)
		}
	})
}

// TestDenied: a caller that is denied again and again writes one line a minute, with a count, and
// its connection is closed after each answer.
func TestDenied(t *testing.T) {
	var denied []string
	h := newServer(t, Settings{}, units{})
	h.server.count.Denied = func(reason string) { denied = append(denied, reason) }
	unit := newSocketUnit(t, "tcp")
	h.tcp = unit.addr.String()
	h.run(unit.listener())
	for range 300 {
		c, err := net.Dial("tcp", h.tcp)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "POST /v1/pools/a/restart HTTP/1.1\r\nHost: localhost\r\n\r\n")
		r := bufio.NewReader(c)
		resp, err := http.ReadResponse(r, nil)
		if err != nil || resp.StatusCode != 401 || !resp.Close {
			t.Fatalf("%+v %v", resp, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadByte(); err == nil {
			t.Fatal("the connection is still open")
		}
		c.Close()
	}
	h.stop()
	<-h.ended
	h.ended <- nil
	lines := 0
	for line := range strings.Lines(h.log.String()) {
		if strings.Contains(line, `"status":401`) && strings.Contains(line, `"level":"WARN"`) {
			lines++
			if !strings.Contains(line, `"count":1`) {
				t.Error(line)
			}
		}
	}
	if lines != 1 || len(denied) != 300 || denied[0] != "missing_token" {
		t.Errorf("%d lines, %d counted", lines, len(denied))
	}
}

// TestUnitsAreForReadersOfTheJournal: a rendered unit has the engine's environment.
func TestUnitsAreForReadersOfTheJournal(t *testing.T) {
	h := openToAll(t, Settings{})
	h.reg.Put(registrytest.Llama())
	if r := h.get("/v1/pools/llama3-8b/unit"); r.status != 200 {
		t.Errorf("root: %d %s", r.status, r.body)
	}
	d := asUser(t.Context(), t, 61300, "unix", h.socket)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return d.dial(ctx) }}}
	h.do(client, http.MethodGet, "http://socket/v1/pools/llama3-8b/unit").wantError(t, 403, "FORBIDDEN")
	if r := h.do(client, http.MethodGet, "http://socket/v1/pools/llama3-8b"); r.status != 200 {
		t.Errorf("another user's read: %d %s", r.status, r.body)
	}
}
