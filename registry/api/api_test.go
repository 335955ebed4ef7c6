package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGoldenAnswers pins every byte that programs read.
func TestGoldenAnswers(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	h.reg.Put(registry.Aggregate(registry.Pool{ID: "broken", LastError: registry.Fail(registry.CodeConfigInvalid,
		"broken.toml:3:1: unknown key \"slotz\"", "Did you mean slots?")}))
	h.reg.SetProblems([]registry.Problem{{File: "/etc/pool-managerd/pools.d/a b.toml", Text: `"a b" is no pool id`,
		Hint: "Rename the file."}})
	for _, p := range registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()}) {
		h.reg.Put(p)
	}
	h.reg.SetDevices(registrytest.Devices())
	for _, c := range []struct{ name, path string }{
		{"health", "/health"},
		{"devices", "/v1/devices"},
		{"pool-gpu", "/v1/pools/gemma"},
		{"pool-gpu-health", "/v1/pools/gemma/health"},
		{"pools", "/v1/pools"},
		{"pool", "/v1/pools/llama3-8b"},
		{"pool-health", "/v1/pools/llama3-8b/health"},
		{"pool-status", "/pools/llama3-8b/status"},
		{"capabilities", "/v1/capabilities"},
		{"version", "/v1/version"},
		{"pool-unit", "/v1/pools/llama3-8b/unit"},
		{"not-found", "/v1/pools/nobody"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := h.get(c.path)
			got := fmt.Sprintf("GET %s\n%d %s\n\n%s", c.path, r.status, r.header.Get("Content-Type"), r.body)
			if r.header.Get("Content-Type") == "application/json" {
				got = strings.Replace(got, r.body, indent(t, r.body), 1)
			}
			golden.File(t, filepath.Join("testdata", c.name+".golden"), got, *update)
		})
	}
}

func indent(t *testing.T, body string) string {
	t.Helper()
	var v json.RawMessage
	if err := json.Unmarshal([]byte(body), &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return string(out) + "\n"
}

func TestEmptyListsAreLists(t *testing.T) {
	h := serve(t, Settings{}, units{})
	if r := h.get("/v1/pools"); r.body != `{"pools":[],"problems":[]}`+"\n" {
		t.Errorf("no pools: %s", r.body)
	}
	h.reg.Put(registry.Pool{ID: "bare", State: registry.StateStopped})
	if r := h.get("/v1/pools/bare"); strings.Contains(strings.ReplaceAll(r.body, `":null`, ""), "null") ||
		strings.Contains(r.body, `"replicas":null`) {
		t.Errorf("a list is null: %s", r.body)
	}
}

func TestTheListIsNeverOld(t *testing.T) {
	h := serve(t, Settings{}, units{})
	for i := range 5 {
		h.reg.Put(registry.Pool{ID: "p", State: registry.StateStopped, RestartCount: i})
		if want := fmt.Sprintf(`"restart_count":%d`, i); !strings.Contains(h.get("/v1/pools").body, want) {
			t.Fatalf("the list is older than the registry: no %s", want)
		}
	}
}

// TestStaleFactsAreReported: while the driver hangs nothing is written, and yet answers show that
// the facts are stale.
func TestStaleFactsAreReported(t *testing.T) {
	h := serve(t, Settings{}, units{})
	facts := registrytest.Devices()
	for _, p := range registrytest.OnGPUs([]registry.Pool{registrytest.Gemma()}) {
		h.reg.Put(p)
	}
	h.reg.SetDevices(facts)
	var age atomic.Int64
	h.server.now = func() time.Time { return facts.Taken.Add(time.Duration(age.Load())) }
	for _, path := range []string{"/v1/pools", "/v1/pools/gemma", "/v1/pools/gemma/health"} {
		t.Run(strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
			for _, c := range []struct {
				age  time.Duration
				free bool
			}{{0, true}, {registry.MaxFactsAge, true}, {registry.MaxFactsAge + time.Millisecond, false}, {0, true}} {
				age.Store(int64(c.age))
				if body := h.get(path).body; strings.Contains(body, "vram_free_bytes") != c.free ||
					!strings.Contains(body, "vram_total_bytes") {
					t.Errorf("after %s: %s", c.age, body)
				}
			}
		})
	}
}

func TestNoSuchThing(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	notFound := func(code string, paths ...string) {
		for _, path := range paths {
			t.Run(code+strings.ReplaceAll(path, "/", "_"), func(t *testing.T) { h.get(path).wantError(t, 404, code) })
		}
	}
	notFound("POOL_NOT_FOUND", "/v1/pools/nobody", "/v1/pools/nobody/health", "/v1/pools/nobody/unit",
		"/pools/nobody/status",
		"/v1/pools/..%2F..%2Fetc", "/v1/pools/"+strings.Repeat("x", 5000))
	notFound("NOT_FOUND", "/page/", "/page/x.js", "/index.html")
	notFound("NOT_FOUND", "/v1", "/v1/pools/", "/v1/pools/llama3-8b/x", "/v2/pools", "/v2/pools/llama3-8b/drain/x",
		"/pools/llama3-8b/x", "/metrics/x")
	t.Run("the_message_names_the_pool", func(t *testing.T) {
		if r := h.get("/v1/pools/absent"); r.json["message"] != "pool absent not found" {
			t.Errorf("message %q", r.json["message"])
		}
	})
}

func TestMethods(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.reg.Put(registrytest.Llama())
	takes := make(map[string][]string) // methods by path
	for _, rt := range h.server.routes {
		takes[rt.path] = append(takes[rt.path], rt.method)
		if rt.method == http.MethodGet {
			takes[rt.path] = append(takes[rt.path], http.MethodHead)
		}
	}
	for pattern, methods := range takes {
		path := strings.NewReplacer("{digest}", aDigest, "{id}", "llama3-8b", "{lease}", "x", "{file}", "main.js",
			"{$}", "").Replace(pattern)
		t.Run(strings.ReplaceAll(path, "/", "_"), func(t *testing.T) {
			methods = append(methods, http.MethodOptions)
			slices.Sort(methods)
			r := h.do(h.overSocket(), http.MethodOptions, "http://socket"+path)
			if r.status != http.StatusNoContent || r.body != "" ||
				r.header.Get("Allow") != strings.Join(methods, ", ") {
				t.Errorf("OPTIONS: %d %q, Allow %q, want %v", r.status, r.body, r.header.Get("Allow"), methods)
			}
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"} {
				if !slices.Contains(methods, method) {
					h.wantAllowed(t, path, strings.Join(methods, ", "), method)
				}
			}
			if !slices.Contains(methods, http.MethodGet) {
				return
			}
			if strings.HasSuffix(path, "/events") {
				return // it does not end: see TestEvents
			}
			get := h.get(path)
			head := h.do(h.overSocket(), "HEAD", "http://socket"+path)
			if head.status != 200 || head.body != "" ||
				head.header.Get("Content-Length") != get.header.Get("Content-Length") {
				t.Errorf("HEAD: %d, %d bytes, Content-Length %s; GET has %s", head.status, len(head.body),
					head.header.Get("Content-Length"), get.header.Get("Content-Length"))
			}
		})
	}
}

// wantAllowed checks that a path refuses methods, and lists the allowed ones.
func (h *host) wantAllowed(t *testing.T, path, allowed string, refused ...string) {
	t.Helper()
	for _, method := range refused {
		r := h.do(h.overSocket(), method, "http://socket"+path)
		if method != http.MethodHead { // an answer to HEAD has no body
			r.wantError(t, 405, "METHOD_NOT_ALLOWED")
		}
		if allow := r.header.Get("Allow"); r.status != http.StatusMethodNotAllowed || allow != allowed {
			t.Errorf("%s: %d, Allow %q", method, r.status, allow)
		}
	}
}

func TestUnit(t *testing.T) {
	h := serve(t, Settings{}, units{
		"unprepared": registry.Fail(registry.CodeModelNotFound, "/srv/m.gguf: no such file", "Copy it there."),
		"gpus":       registry.Fail(registry.CodeGPUUnavailable, "the GPUs of this host are unknown", "See pool-gpu."),
		"defect":     errors.New("secret detail"),
		"panics":     errPanic,
	})
	for _, id := range []string{"good", "unprepared", "gpus", "defect", "panics"} {
		h.reg.Put(registry.Pool{ID: id})
	}
	if r := h.get("/v1/pools/good/unit"); r.status != 200 || !strings.Contains(r.body, "Type=exec") {
		t.Errorf("unit: %d %s", r.status, r.body)
	}
	r := h.get("/v1/pools/unprepared/unit")
	r.wantError(t, 409, "MODEL_NOT_FOUND")
	if r.json["hint"] != "Copy it there." {
		t.Errorf("hint %q", r.json["hint"])
	}
	r = h.get("/v1/pools/gpus/unit") // they may be known soon
	r.wantError(t, 503, "GPU_UNAVAILABLE")
	if r.json["hint"] != "See pool-gpu." || r.json["retriable"] != true || r.header.Get("Retry-After") == "" {
		t.Errorf("%v %s", r.header, r.body)
	}
	r = h.get("/v1/pools/defect/unit")
	r.wantError(t, 500, "INTERNAL")
	if strings.Contains(r.body, "secret detail") {
		t.Errorf("an inner error is shown to the caller: %s", r.body)
	}
	h.logged("secret detail", r.header.Get(correlationHeader))
	r = h.get("/v1/pools/panics/unit")
	r.wantError(t, 500, "INTERNAL")
	h.logged("a request handler panicked", "a defect", r.header.Get(correlationHeader), "stack")
	if r := h.get("/health"); r.status != 200 {
		t.Errorf("after a panic: %d", r.status)
	}
}

func TestAStuckBackendIsBounded(t *testing.T) {
	h := newServer(t, Settings{}, units{"stuck": nil})
	h.reg.Put(registry.Pool{ID: "stuck"})
	r := httptest.NewRequest("GET", "/v1/pools/stuck/unit", nil).WithContext(timedOut(t))
	r = r.WithContext(withCaller(r.Context()))
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, r)
	if w.Code != 503 || !strings.Contains(w.Body.String(), `"retriable":true`) || w.Header().Get("Retry-After") != "1" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

func TestCorrelationID(t *testing.T) {
	h := serve(t, Settings{}, units{})
	made := func(t *testing.T, r reply) {
		t.Helper()
		id := r.header.Get(correlationHeader)
		if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
			t.Errorf("%s: %q, want 128 bits in hex", correlationHeader, id)
		}
	}
	t.Run("echoed_and_logged", func(t *testing.T) {
		id := "req-42 / of: someone~"
		if got := h.get("/health", correlationHeader, id).header.Get(correlationHeader); got != id {
			t.Errorf("%q", got)
		}
		h.logged(`"correlation_id":"`+id+`"`, `"path":"/health"`, `"status":200`)
	})
	t.Run("echoed_with_errors", func(t *testing.T) {
		if got := h.get("/nowhere", correlationHeader, "e1").header.Get(correlationHeader); got != "e1" {
			t.Errorf("%q", got)
		}
	})
	t.Run("128_characters_are_accepted", func(t *testing.T) {
		id := strings.Repeat("x", 128)
		if got := h.get("/health", correlationHeader, id).header.Get(correlationHeader); got != id {
			t.Errorf("%q", got)
		}
	})
	t.Run("129_are_not", func(t *testing.T) { made(t, h.get("/health", correlationHeader, strings.Repeat("x", 129))) })
	t.Run("what_cannot_be_printed_is_not", func(t *testing.T) { made(t, h.get("/health", correlationHeader, "a\tb")) })
	t.Run("bytes_beyond_ascii_are_not", func(t *testing.T) { made(t, h.get("/health", correlationHeader, "ä")) })
	t.Run("made_when_absent_and_each_differs", func(t *testing.T) {
		a, b := h.get("/health"), h.get("/health")
		made(t, a)
		if a.header.Get(correlationHeader) == b.header.Get(correlationHeader) {
			t.Error("two requests have the same id")
		}
	})
}

// TestHeaderLimit: a caller cannot make the daemon hold a large header.
func TestHeaderLimit(t *testing.T) {
	h := serve(t, Settings{}, units{})
	c, err := net.Dial("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /health HTTP/1.1\r\nHost: x\r\nX-Large: %s\r\n\r\n", strings.Repeat("x", 40<<10))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("status %d, want 431", resp.StatusCode)
	}
}

// TestDescription: hints send callers to the description of the API, and it is served as it is in
// the tree.
func TestDescription(t *testing.T) {
	h := serve(t, Settings{}, units{})
	want, err := os.ReadFile(openapi)
	if err != nil {
		t.Fatal(err)
	}
	r := h.get("/openapi.yaml")
	if r.status != 200 || r.body != string(want) || r.header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%d %s, %d bytes", r.status, r.header.Get("Content-Type"), len(r.body))
	}
	if !strings.Contains(h.get("/nowhere").body, "GET /openapi.yaml lists the paths.") {
		t.Error("the hint for an unknown path does not name it")
	}
}

func TestMetricsRoute(t *testing.T) {
	h := serve(t, Settings{}, units{})
	if r := h.get("/metrics"); r.status != 200 || r.body != "pool_ready 1\n" {
		t.Errorf("%d %s", r.status, r.body)
	}
	without, err := New(Options{Registry: h.reg, Backend: units{}, Log: h.server.log})
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	without.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil).WithContext(withCaller(t.Context())))
	if w.Code != 404 {
		t.Errorf("without metrics: %d", w.Code)
	}
}

func TestPartsAreNeeded(t *testing.T) {
	if _, err := New(Options{Registry: registry.New(), Backend: units{}}); err == nil {
		t.Error("a server without a log was made")
	}
}

// TestAPanicAfterTheAnswerBegan: the caller must not take a part for the whole.
func TestAPanicAfterTheAnswerBegan(t *testing.T) {
	log := &logBuffer{}
	half := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "pool_ready 1\n")
		w.(interface{ Unwrap() http.ResponseWriter }).Unwrap().(http.Flusher).Flush()
		panic("halfway")
	})
	s, err := New(Options{Registry: registry.New(), Backend: units{}, Metrics: half,
		Settings: Settings{AuthOptional: true}, Peers: &peers{},
		Log: slog.New(slog.NewJSONHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewUnstartedServer(s)
	srv.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		known := &connection{uncount: func() {}}
		known.tcp, known.account = s.identifyTCP(c)
		return context.WithValue(ctx, connectionKey{}, known)
	}
	srv.Start()
	defer srv.Close()
	resp, err := srv.Client().Get(srv.URL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err == nil {
		t.Errorf("the answer looks whole: %q", body)
	}
	if !strings.Contains(log.String(), "halfway") {
		t.Errorf("the log does not say why: %s", log)
	}
}
