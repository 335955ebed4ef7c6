package api

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestTokenFiles(t *testing.T) {
	cases := []struct {
		name, path, want string
	}{
		{"missing", filepath.Join(t.TempDir(), "none"), "cannot be read: no such file or directory"},
		{"empty", tokenFile(t, " \n"), "is empty"},
		{"two_words", tokenFile(t, "a b"), "more than one word"},
		{"two_lines_without_names", tokenFile(t, "a\nb\n"), "has the token or the name of an earlier line"},
		{"one_without_a_name", tokenFile(t, "a name=a\nb\n"), "one has no name"},
		{"a_name_twice", tokenFile(t, "a name=x\nb name=x\n"), "line 2 has the token or the name"},
		{"a_token_twice", tokenFile(t, "a name=x\na name=y\n"), "line 2 has the token or the name"},
		{"a_key_twice", tokenFile(t, "a name=x name=y"), "has name= twice"},
		{"another_key", tokenFile(t, "a name=x admin=yes"), "only name=, scope= and pools="},
		{"another_scope", tokenFile(t, "a name=x scope=all"), "a value of scope= that is not valid"},
		{"a_name_with_a_space", tokenFile(t, "a name="), "a value of name= that is not valid"},
		{"no_pools", tokenFile(t, "a pools="), "a value of pools= that is not valid"},
		{"not_a_pool", tokenFile(t, "a pools=a,,b"), "a value of pools= that is not valid"},
		{"comments_alone", tokenFile(t, "# a\n\n"), "is empty"},
		{"too_many", tokenFile(t, manyTokens(65)), "more than 64"},
		{"not_text", tokenFile(t, "\xff\xfe"), "header does not allow"},
		{"too_large", tokenFile(t, strings.Repeat("x", 20000)), "regular file of at most"},
		{"a_directory", t.TempDir(), "regular file"},
		{"a_device_that_never_ends", "/dev/zero", "regular file"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			h := newServer(t, Settings{TokenFile: c.path}, units{})
			err := h.server.Apply(Settings{TokenFile: c.path})
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != registry.CodeConfigInvalid || !strings.Contains(f.Message, c.want) ||
				!strings.Contains(f.Message, c.path) {
				t.Errorf("%v, want CONFIG_INVALID with the path and %q", err, c.want)
			}
			// The server made with it runs, logs why, and accepts no token, not even an empty one.
			h.logged("no token is accepted over TCP", c.path, c.want, "openssl rand")
			r := httptest.NewRequest("GET", "http://localhost/v1/pools", nil)
			r.RemoteAddr = "127.0.0.1:4000"
			for _, given := range []string{"x", "a b", strings.Repeat("x", 5000)} {
				r.Header.Set("Authorization", "Bearer "+given)
				if got := h.server.auth.Load().identify(r, &connection{}); got.may != accessNone {
					t.Errorf("a token is accepted: %+v", got)
				}
			}
		})
	}
}

// manyTokens is the text of a file of so many.
func manyTokens(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "token-%d name=n%d\n", i, i)
	}
	return b.String()
}

// TestSeveralTokens: each caller has what its line says, by whatever way it asks, and the log has
// its name and never its token.
func TestSeveralTokens(t *testing.T) {
	file := tokenFile(t, "# of the site\n"+secret+" name=admin\n\nr-secret name=grafana scope=read\n"+
		"\tp-secret pools=a,b name=team scope=write \nq-secret name=viewer pools=a scope=read\n")
	h := serve(t, Settings{TokenFile: file}, units{})
	for _, id := range []string{"a", "c"} {
		h.reg.Put(registry.Pool{ID: id, State: registry.StateStopped})
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for _, c := range []struct {
		token, method, path string
		status              int
	}{
		{secret, "GET", "/v1/pools", 200}, {secret, "POST", "/v1/pools/c/drain", 202}, {secret, "POST", "/v1/reload", 200},
		{"r-secret", "GET", "/v1/pools", 200}, {"r-secret", "GET", "/metrics", 200}, {"r-secret", "GET", "/v1/pools/c", 200},
		{"r-secret", "POST", "/v1/pools/c/drain", 403}, {"r-secret", "GET", "/v1/pools/c/unit", 403},
		{"r-secret", "POST", "/v1/pools/c/leases", 403}, {"r-secret", "DELETE", "/v1/pools/c", 403},
		{"r-secret", "POST", "/v2/pools/c/drain", 403}, {"r-secret", "GET", "/v1/downloads", 403},
		{"p-secret", "POST", "/v1/pools/a/drain", 202}, {"p-secret", "POST", "/pools/a/drain", 202},
		{"p-secret", "GET", "/v1/pools/a", 200}, {"p-secret", "GET", "/v1/events?pool=a&follow=false", 200},
		{"p-secret", "POST", "/v1/pools/b/drain", 404}, {"p-secret", "POST", "/v1/pools/c/drain", 403},
		{"p-secret", "POST", "/v1/pools/c%2f..%2fa/drain", 403}, {"p-secret", "GET", "/v1/pools/A", 403},
		{"p-secret", "GET", "/v1/pools/c", 403}, {"p-secret", "GET", "/v1/pools", 403}, {"p-secret", "GET", "/metrics", 403},
		{"p-secret", "GET", "/v1/events?follow=false", 403}, {"p-secret", "GET", "/v1/events?pool=c&follow=false", 403},
		{"p-secret", "GET", "/v1/events?pool=a&pool=c&follow=false", 400}, {"p-secret", "POST", "/v1/reload", 403},
		{"p-secret", "POST", "/v1/downloads", 403}, {"p-secret", "GET", "/v1/devices", 403}, {"p-secret", "GET", "/health", 200},
		{"p-secret", "GET", "/v1/version", 200}, {"p-secret", "GET", "/nowhere", 403},
		{"q-secret", "GET", "/v1/pools/a/health", 200}, {"q-secret", "POST", "/v1/pools/a/drain", 403},
		{"q-secret", "GET", "/v1/pools/b", 403},
		{"name=admin", "GET", "/v1/pools", 401}, {secret + " name=admin", "GET", "/v1/pools", 401}, {"#", "GET", "/v1/pools", 401},
	} {
		r := h.ask(client, c.method, "http://"+h.tcp+c.path, "", "Authorization", "Bearer "+c.token)
		if r.status != c.status {
			t.Errorf("%s %s with %s: %d %s, want %d", c.method, c.path, c.token, r.status, r.body, c.status)
		}
	}
	h.logged(`"identity":"token:3eb1bd"`, `"token_name":"admin"`, `"path":"/v1/pools/c/drain"`, `"status":202`)
	h.logged(`"token_name":"team"`, `"path":"/v1/pools/a/drain"`)
	if log := h.log.String(); strings.Contains(log, "-secret") || strings.Contains(log, secret) {
		t.Error("a token is in the log")
	}
	t.Run("one_is_taken_out_by_a_reload", func(t *testing.T) {
		if err := os.WriteFile(file, []byte(secret+" name=admin\nnew name=grafana scope=read\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := h.server.Apply(Settings{TokenFile: file}); err != nil {
			t.Fatal(err)
		}
		for token, status := range map[string]int{secret: 200, "new": 200, "r-secret": 401, "p-secret": 401} {
			if r := h.getTCP("/v1/pools", "Authorization", "Bearer "+token); r.status != status {
				t.Errorf("%s: %d, want %d", token, r.status, status)
			}
		}
	})
}

// FuzzTokens: no text of a token file makes the parser fail in another way than by an error that
// has no word of the text, and what is taken is a token with a scope.
func FuzzTokens(f *testing.F) {
	f.Add([]byte("abc"))
	f.Add([]byte("abc name=a scope=read pools=a,b\ndef name=b\n"))
	f.Add([]byte("# only\n\n"))
	f.Fuzz(mutate.Many(func(t *testing.T, body []byte) {
		list, err := parseTokens(body)
		if (err == nil) != (len(list) > 0) {
			t.Fatalf("%d tokens and %v", len(list), err)
		}
		for _, token := range list {
			if token.may != accessRead && token.may != accessWrite || list.find(token.sum) == nil {
				t.Errorf("%+v", token)
			}
		}
	}))
}
