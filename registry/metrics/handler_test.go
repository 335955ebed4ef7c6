package metrics

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestHandler: no header of a caller's makes an error in the log or another answer than the
// metrics, and more scrapes at the same time than are allowed are refused.
func TestHandler(t *testing.T) {
	var logged bytes.Buffer
	m := New(Options{Registry: registry.New(), Version: "1", Engines: []string{"llamacpp"},
		Log: slog.New(slog.NewTextHandler(&logged, nil))})
	handler := m.Handler()
	scrape := func(ctx context.Context, encoding string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(ctx, "GET", "/metrics", nil)
		if encoding != "" {
			r.Header.Set("Accept-Encoding", encoding)
		}
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, r)
		return w
	}
	for encoding, want := range map[string]string{
		"": "", "gzip": "gzip", "deflate, GZIP;q=0.5": "gzip", "gzip;q=0": "", "gzip; q=0.000": "", "identity": "",
		"identity;q=0, *;q=0": "", "nonsense": "", "*": "", "*;q=0": "", "zstd": "", ";;;,,,=": "", "gzip;q=x": "gzip",
		"\x00": "",
	} {
		w := scrape(t.Context(), encoding)
		if w.Code != http.StatusOK || w.Header().Get("Content-Encoding") != want ||
			want == "" && !strings.Contains(w.Body.String(), "go_goroutines") {
			t.Errorf("Accept-Encoding: %q: %d, encoding %q, want %q", encoding, w.Code,
				w.Header().Get("Content-Encoding"), want)
		}
	}
	if logged.Len() > 0 {
		t.Errorf("logged: %s", logged.String())
	}
	// Scrapes that wait for their reader hold their places.
	hold, held := make(chan struct{}), make(chan struct{}, scrapes)
	var all sync.WaitGroup
	for range scrapes {
		all.Go(func() {
			handler.ServeHTTP(&slowWriter{httptest.NewRecorder(), hold, held},
				httptest.NewRequest("GET", "/metrics", nil))
		})
	}
	for range scrapes {
		<-held
	}
	if w := scrape(t.Context(), ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("one more: %d", w.Code)
	}
	close(hold)
	all.Wait()
	if w := scrape(t.Context(), ""); w.Code != http.StatusOK {
		t.Errorf("afterwards: %d", w.Code)
	}
}

// slowWriter waits with its first bytes.
type slowWriter struct {
	*httptest.ResponseRecorder
	hold <-chan struct{}
	held chan<- struct{}
}

func (w *slowWriter) Write(p []byte) (int, error) {
	select {
	case w.held <- struct{}{}:
	default:
	}
	<-w.hold
	return w.ResponseRecorder.Write(p)
}
