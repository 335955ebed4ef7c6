package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestKinds: by its name the program answers as another engine, and says so in its version.
func TestKinds(t *testing.T) {
	for _, c := range []struct {
		program, version, says string
		answers, not           []string
	}{
		{"/x/stubengine", "--help", "", []string{"/slots", "/props", "/metrics"}, []string{"/v1/loads"}},
		{"/x/standin-sglang", "version", "sglang version: 0.0.0+standin\n", []string{"/server_info", "/v1/loads", "/metrics"}, []string{"/slots"}},
		{"standin-trtllm-serve", "--help", "version: 0.0.0+standin\n", []string{"/health"}, []string{"/slots", "/metrics"}},
	} {
		t.Run(c.program, func(t *testing.T) {
			k := kindOf(c.program)
			var out strings.Builder
			if printed := k.printsVersion([]string{c.version}, &out); printed != (c.says != "") ||
				!strings.Contains(out.String(), c.says) || k.printsVersion([]string{"serve"}, &out) {
				t.Errorf("version %q", out.String())
			}
			e := newEngine(options{Kind: k, Slots: 3})
			e.loaded.Store(true)
			for _, path := range append(c.answers, c.not...) {
				w := httptest.NewRecorder()
				e.routes().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				want := http.StatusOK
				if strings.Contains(strings.Join(c.not, " "), path) {
					want = http.StatusNotFound
				}
				if w.Code != want {
					t.Errorf("%s: %d, want %d", path, w.Code, want)
				}
			}
		})
	}
}
