package api

import (
	"strconv"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestArtifacts: a file of the cache is handed out by its digest, whole and in parts; so many at a
// time; and each refusal has a code with a hint.
func TestArtifacts(t *testing.T) {
	h := serve(t, Settings{}, units{})
	sent := int64(0)
	h.server.count.Artifact = func(n int64) { sent += n }
	const url = "http://socket/v1/artifacts/"
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
		r := h.do(h.overSocket(), c.method, url+aDigest, c.header...)
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
		if r := h.get(path); r.status != status || r.json["code"] != code || r.json["hint"] == "" {
			t.Errorf("%s: %d %s", path, r.status, r.body)
		}
	}
	refused("/v1/artifacts/sha256:00", 404, "MODEL_NOT_FOUND")
	refused("/v1/artifacts/..%2f..%2fetc%2fshadow", 404, "MODEL_NOT_FOUND")
	h.server.library = &libraries{err: registry.Fail(registry.CodePolicyDenied, "not shared", "Set share.")}
	refused("/v1/artifacts/"+aDigest, 403, "POLICY_DENIED")
	h.server.library = &libraries{}
	for range artifactStreams {
		h.server.artifacts <- struct{}{}
	}
	refused("/v1/artifacts/"+aDigest, 503, "BUSY")
	<-h.server.artifacts
	if r := h.get("/v1/artifacts/" + aDigest); r.status != 200 {
		t.Errorf("after one has ended: %d", r.status)
	}
}
