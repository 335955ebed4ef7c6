package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestArtifacts: a file of the cache is handed out by its digest, whole and in parts, and each
// refusal has a code with a hint.
func TestArtifacts(t *testing.T) {
	h := serve(t, Settings{TokenFile: tokenFile(t, "secret name=peers scope=read")}, units{})
	sent := int64(0)
	h.server.count.Artifact = func(n int64) { sent += n }
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	url, token := "http://"+h.tcp+"/v1/artifacts/", []string{"Authorization", "Bearer secret"}
	for _, c := range []struct {
		method string
		header []string
		status int
		body   string
		parts  string // Content-Range
	}{
		{"GET", nil, 200, "abcdefghijklmnopqrstuvwxyz", ""},
		{"HEAD", nil, 200, "", ""},
		{"GET", []string{"Range", "bytes=2-4"}, 206, "cde", "bytes 2-4/26"},
		{"GET", []string{"Range", "bytes=24-99"}, 206, "yz", "bytes 24-25/26"},
		{"GET", []string{"Range", "bytes=26-"}, 416, "INVALID_PARAMS", "bytes */26"},
		{"GET", []string{"If-None-Match", `"` + aDigest + `"`}, 304, "", ""},
	} {
		before := sent
		r := h.do(client, c.method, url+aDigest, append(c.header, token...)...)
		if r.status != c.status || !strings.Contains(r.body, c.body) || r.header.Get("Content-Range") != c.parts {
			t.Errorf("%s %v: %d %q %v", c.method, c.header, r.status, r.body, r.header)
		}
		if c.status >= 300 {
			continue
		}
		if r.header.Get("ETag") != `"`+aDigest+`"` || r.header.Get("Content-Type") != "application/octet-stream" {
			t.Errorf("%s %v: %v", c.method, c.header, r.header)
		}
		if r.body != c.body || sent-before != int64(len(c.body)) || c.method == "GET" &&
			r.header.Get("Content-Length") != strconv.Itoa(len(c.body)) {
			t.Errorf("%s %v: %q, %d counted", c.method, c.header, r.body, sent-before)
		}
	}
	refused := func(path string, status int, code string) {
		t.Helper()
		if r := h.getTCP(path, token...); r.status != status || r.json["code"] != code || r.json["hint"] == "" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	refused("/v1/artifacts/sha256:00", 404, "MODEL_NOT_FOUND")
	refused("/v1/artifacts/..%2f..%2fetc%2fshadow", 404, "MODEL_NOT_FOUND")
	h.server.library = &libraries{err: registry.Fail(registry.CodePolicyDenied, "not shared", "Set share.")}
	refused("/v1/artifacts/"+aDigest, 403, "POLICY_DENIED")
}

// TestWhoTakesArtifacts: files are for other hosts, with a token, and for who may change what runs.
// Other users of this host have them in the cache, as far as its directories are open to them.
func TestWhoTakesArtifacts(t *testing.T) {
	for name, c := range map[string]struct {
		who    caller
		status int
	}{
		"root":                 {caller{kind: callerUser, may: accessWrite}, 200},
		"reader_of_this_host":  {caller{kind: callerUser, uid: 7, may: accessRead}, 403},
		"reader_of_journals":   {caller{kind: callerUser, uid: 7, may: accessDetails}, 403},
		"token_of_scope_read":  {caller{kind: callerToken, may: accessRead}, 200},
		"token_of_scope_write": {caller{kind: callerToken, may: accessWrite}, 200},
		"local_without_token":  {caller{kind: callerLocal, may: accessWrite}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			h := newServer(t, Settings{}, units{})
			r := httptest.NewRequest(http.MethodGet, "/v1/artifacts/"+aDigest, nil)
			r.SetPathValue("digest", aDigest)
			w := httptest.NewRecorder()
			rt := h.server.artifactRoutes()[0]
			h.server.guarded(rt.needs, rt.serve)(&exchange{ResponseWriter: w, caller: c.who, from: &connection{}}, r)
			if w.Code != c.status || c.status == 403 && !strings.Contains(w.Body.String(), "Read them in cache_dir") {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
}

// TestSlowReaders: those that take nothing keep others off for some seconds, and not longer.
func TestSlowReaders(t *testing.T) {
	const size = 64 << 20 // more than the buffers of sockets have room for
	h := serve(t, Settings{TokenFile: tokenFile(t, "secret name=peers scope=read")}, units{})
	name := filepath.Join(t.TempDir(), "large")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), os.Truncate(name, size)); err != nil {
		t.Fatal(err)
	}
	h.server.library = &large{name: name}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	ask := func() *http.Response {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+h.tcp+"/v1/artifacts/"+aDigest, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer secret")
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	var slow []*http.Response
	for range eachHandouts {
		slow = append(slow, ask())
	}
	if resp := ask(); resp.StatusCode != http.StatusServiceUnavailable {
		t.Fatalf("at once: %s", resp.Status)
	}
	var last *http.Response
	for range 100 { // a slow machine may count what went into the buffers as taken
		time.Sleep(handoutGrace / 4)
		if last = ask(); last.StatusCode == http.StatusOK {
			break
		}
	}
	if n, err := io.Copy(io.Discard, last.Body); n != size || err != nil {
		t.Errorf("%s, %d bytes, %v", last.Status, n, err)
	}
	ended := 0
	for _, resp := range slow {
		if n, err := io.Copy(io.Discard, resp.Body); err != nil && n < size {
			ended++
		}
	}
	if ended != 1 {
		t.Errorf("%d of %d were ended", ended, len(slow))
	}
	if r := h.getTCP("/v1/version", "Authorization", "Bearer secret"); r.status != 200 {
		t.Errorf("afterwards: %d", r.status)
	}
}

// large is a cache with one large file.
type large struct {
	libraries
	name string
}

// Open implements Library.
func (l *large) Open(context.Context, string) (*os.File, error) { return os.Open(l.name) }
