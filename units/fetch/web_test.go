package fetch

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/test/hub"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// secure is a server of one file over TLS, under the name of its certificate.
type secure struct {
	cache, ca, base string
	hosts           map[string][]string
	asked           atomic.Int64
}

func overTLS(t *testing.T, handler http.HandlerFunc) *secure {
	t.Helper()
	s := &secure{cache: t.TempDir(), hosts: map[string][]string{"example.com": {"127.0.0.1"}}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		handler(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	s.base = "https://" + net.JoinHostPort("example.com", u.Port())
	s.ca = filepath.Join(s.cache, "ca.pem")
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(s.ca, certificate, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *secure) request(ref string) wire.Request {
	r, err := modelref.Parse(ref)
	if err != nil {
		panic(err) // a mistake of the test
	}
	return wire.Request{Version: 1, Ref: ref, CacheDir: s.cache, Directory: r.Directory(), CAFile: s.ca, Hosts: s.hosts,
		Connections: 4}
}

func (s *secure) get(t *testing.T, r wire.Request) outcome {
	return (&site{cache: s.cache}).fetch(t.Context(), r, Options{}, quick())
}

// TestWeb: a file at an address, from servers that differ in what they say about it.
func TestWeb(t *testing.T) {
	data := hub.Data(7, 300_001)
	file := hub.Bytes("x", data, true)
	content := func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Unix(1e9, 0), file.Open())
	}
	for name, handler := range map[string]http.HandlerFunc{
		"plain": content,
		"etag": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"v1"`)
			content(w, r)
		},
		"no_head": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				http.Error(w, "no", http.StatusMethodNotAllowed)
				return
			}
			content(w, r)
		},
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/dir/model.gguf" {
				http.Redirect(w, r, "/elsewhere", http.StatusFound)
				return
			}
			content(w, r)
		},
		"no_ranges": func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("Range")
			content(w, r)
		},
		"chunked": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				_ = http.NewResponseController(w).Flush() // before anything is known of the length
				_, _ = io.Copy(w, file.Open())
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := overTLS(t, handler)
			r := s.request(s.base + "/dir/model.gguf")
			got := s.get(t, r).result(t)
			same(t, filepath.Dir(got.Path), hub.Bytes("model.gguf", data, true))
			want := file.SHA256()
			if got.Digest != "sha256:"+want || got.Bytes != int64(len(data)) {
				t.Errorf("result %+v, want the digest %s", got, want)
			}
			if to, err := os.Readlink(got.Path); err != nil || to != "../../blobs/"+want {
				t.Errorf("a link to %q (%v)", to, err)
			}
			if name == "chunked" {
				return
			}
			before := s.asked.Load()
			if again := s.get(t, r).result(t); cmp.Diff(got, again) != "" || s.asked.Load() > before+2 {
				t.Errorf("again: %+v, after %d requests", again, s.asked.Load()-before)
			}
		})
	}
}

// TestWebDigest: the digest of a pool file is checked, and what has it needs no network.
func TestWebDigest(t *testing.T) {
	file := hub.Bytes("x", hub.Data(7, 100_000), true)
	s := overTLS(t, func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, file.Open())
	})
	r := s.request(s.base + "/model.gguf")
	r.Digest = "sha256:" + strings.Repeat("1", 64)
	s.get(t, r).failed(t, wire.DigestMismatch, "was set aside")
	r.Digest = "sha256:" + file.SHA256()
	s.get(t, r).result(t)
	before := s.asked.Load()
	if got := s.get(t, r).result(t); got.Digest != r.Digest || s.asked.Load() != before {
		t.Errorf("%+v, after %d requests", got, s.asked.Load()-before)
	}
}

// TestWebChanged: a file that changes while it is fetched is not put together from both.
func TestWebChanged(t *testing.T) {
	var asked atomic.Int64
	old, new := hub.Bytes("x", hub.Data(7, 300_000), true), hub.Bytes("x", hub.Data(8, 300_000), true)
	s := overTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) < 6 {
			w.Header().Set("ETag", `"v1"`)
			http.ServeContent(w, r, "", time.Time{}, old.Open())
			return
		}
		w.Header().Set("ETag", `"v2"`)
		http.ServeContent(w, r, "", time.Time{}, new.Open())
	})
	r := s.request(s.base + "/model.gguf")
	s.get(t, r).failed(t, wire.BadAnswer, "another file than before")
	same(t, filepath.Dir(s.get(t, r).result(t).Path), hub.Bytes("model.gguf", hub.Data(8, 300_000), true))
}

// TestWebCut: a file without a length is begun again when it is cut, and is never half.
func TestWebCut(t *testing.T) {
	data := hub.Data(7, 300_000)
	var asked atomic.Int64
	cuts := int64(3)
	s := overTLS(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			return
		}
		_ = http.NewResponseController(w).Flush() // before anything is known of the length
		if asked.Add(1) <= cuts {
			_, _ = w.Write(data[:100_000])
			panic(http.ErrAbortHandler)
		}
		_, _ = w.Write(data)
	})
	r := s.request(s.base + "/model.gguf")
	same(t, filepath.Dir(s.get(t, r).result(t).Path), hub.Bytes("model.gguf", data, true))
	cuts = 1 << 30
	s.get(t, r).failed(t, wire.Network, "was cut each time")
	cuts, r.MaxBytes = 0, 50_000
	s.get(t, r).failed(t, wire.TooLarge)
}

// TestWebRefuses: what is wrong with the server or the way to it is named.
func TestWebRefuses(t *testing.T) {
	s := overTLS(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/plain.gguf":
			http.Redirect(w, r, "http://example.com/x", http.StatusFound)
		case "/loop.gguf":
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		case "/nowhere.gguf":
			w.WriteHeader(http.StatusFound)
		case "/teapot.gguf":
			w.WriteHeader(http.StatusTeapot)
		case "/private.gguf":
			w.WriteHeader(http.StatusUnauthorized)
		default:
			http.NotFound(w, r)
		}
	})
	for path, c := range map[string]struct {
		reason wire.Reason
		part   string
	}{
		"/plain.gguf":   {wire.BadAnswer, "not encrypted"},
		"/loop.gguf":    {wire.BadAnswer, "redirects more than"},
		"/nowhere.gguf": {wire.BadAnswer, "redirects to no address"},
		"/teapot.gguf":  {wire.BadAnswer, "the status 418"},
		"/private.gguf": {wire.Unauthorized, "refuses access"},
		"/none.gguf":    {wire.NotFound, "does not have it"},
	} {
		t.Run(strings.Trim(path, "/"), func(t *testing.T) {
			s.get(t, s.request(s.base+path)).failed(t, c.reason, c.part)
		})
	}
	r := s.request(s.base + "/x.gguf")
	r.CAFile = ""
	s.get(t, r).failed(t, wire.BadAnswer, "certificate of example.com")
	r.CAFile = filepath.Join(s.cache, "none.pem")
	s.get(t, r).failed(t, wire.BadRequest, "ca_file")
	r = s.request(strings.Replace(s.base, "example.com", "other.example.com", 1) + "/x.gguf")
	s.get(t, r).failed(t, wire.HostDenied, "other.example.com")
}
