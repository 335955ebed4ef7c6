package api

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// correlationHeader names a request, so that its trace through several programs can be found.
const correlationHeader = "X-Correlation-Id"

// correlationLimit is the longest correlation id that is accepted, in characters.
const correlationLimit = 128

// ServeHTTP answers one request: names it, finds its route, guards it, and logs it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	id := correlationOf(r)
	h := w.Header()
	h.Set(correlationHeader, id)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if s.ending.Load() {
		h.Set("Connection", "close")
	}
	c := s.auth.Load().identify(r)
	rec := &recorder{ResponseWriter: w}
	r = r.WithContext(context.WithValue(r.Context(), requestKey{}, request{id, c}))
	defer s.finish(rec, r, began)
	s.route(rec, r)
}

// requestKey is the context key of what is known of a request beside its headers.
type requestKey struct{}

type request struct {
	correlationID string
	caller        caller
}

// route serves the request with its handler, or says why there is none. The mux's own answers are plain text,
// so they are asked for and put into JSON.
func (s *Server) route(w http.ResponseWriter, r *http.Request) {
	handler, pattern := s.mux.Handler(r)
	if pattern != "" {
		s.mux.ServeHTTP(w, r)
		return
	}
	s.guarded(accessRead, func(w http.ResponseWriter, r *http.Request) error {
		asked := &verdict{header: make(http.Header)}
		handler.ServeHTTP(asked, r)
		if asked.status != http.StatusMethodNotAllowed {
			return noSuchRoute()
		}
		allow := withOptions(asked.header.Get("Allow"))
		w.Header().Set("Allow", allow)
		if r.Method == http.MethodOptions {
			w.WriteHeader(http.StatusNoContent)
			return nil
		}
		return wrongMethod(r.Method, allow)
	})(w, r)
}

// withOptions adds the method that every path answers, in the order of the alphabet.
func withOptions(allow string) string {
	methods := append(strings.Split(allow, ", "), http.MethodOptions)
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// guarded refuses callers that may not do what the route needs, and answers what the handler returns as an error.
func (s *Server) guarded(needs access, serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if rec, ok := w.(*recorder); ok {
			rec.reads = needs <= accessRead
		}
		known, _ := r.Context().Value(requestKey{}).(request)
		if known.caller.may < needs {
			if known.caller.denied.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="pool-managerd"`) // RFC 9110 11.6.1
			}
			known.caller.denied.write(w)
			return
		}
		if err := serve(w, r); err != nil {
			e := asError(err)
			if e.Status == http.StatusInternalServerError {
				s.log.Error("a request failed", "correlation_id", known.correlationID, "path", loggedPath(r), "err", err)
			}
			e.write(w)
		}
	}
}

// finish turns a handler's panic into one 500 and logs the request.
func (s *Server) finish(w *recorder, r *http.Request, began time.Time) {
	if p := recover(); p != nil {
		known, _ := r.Context().Value(requestKey{}).(request)
		s.log.Error("a request handler panicked", "correlation_id", known.correlationID, "method", r.Method,
			"path", loggedPath(r), "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		if w.status != 0 {
			s.logRequest(w, r, began)
			panic(http.ErrAbortHandler) // the answer has begun: cut it, so that the caller sees that it is not whole
		}
		broken().write(w)
	}
	s.logRequest(w, r, began)
}

// logRequest logs reads that went well for debugging only: an orchestrator sends a hundred a second.
func (s *Server) logRequest(w *recorder, r *http.Request, began time.Time) {
	level := slog.LevelInfo
	switch {
	case w.status >= 500:
		level = slog.LevelError
	case w.status == http.StatusUnauthorized, w.status == http.StatusForbidden:
		level = slog.LevelWarn
	case w.reads:
		level = slog.LevelDebug
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	known, _ := r.Context().Value(requestKey{}).(request)
	path := loggedPath(r)
	attrs := []slog.Attr{
		slog.String("correlation_id", known.correlationID), slog.String("identity", known.caller.identity),
		slog.String("method", r.Method), slog.String("path", path),
		slog.Int("status", w.status), slog.Int64("duration_ms", time.Since(began).Milliseconds()),
	}
	if p, ok := s.registry.Snapshot().Pool(r.PathValue("id")); ok {
		attrs = append(attrs, slog.String("pool_id", p.ID))
	}
	s.log.LogAttrs(r.Context(), level, fmt.Sprintf("%s asked %s %s: %d", known.caller.identity, r.Method, path, w.status), attrs...)
}

// loggedPath is the path as it was sent, escaped and not for ever: the caller chooses it.
func loggedPath(r *http.Request) string {
	path := r.URL.EscapedPath()
	return path[:min(len(path), 256)]
}

// correlationOf returns the caller's id where it is one, else a new one of 128 random bits in hex.
func correlationOf(r *http.Request) string {
	id := r.Header.Get(correlationHeader)
	if printable(id) {
		return id
	}
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return hex.EncodeToString(b[:])
}

func printable(id string) bool {
	if id == "" || len(id) > correlationLimit {
		return false
	}
	for i := range len(id) {
		if id[i] < ' ' || id[i] > '~' {
			return false
		}
	}
	return true
}

// recorder remembers the status, and whether the route only reads, for the log.
type recorder struct {
	http.ResponseWriter
	status int
	reads  bool
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	return r.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// verdict takes an answer of the mux and keeps its status and header only.
type verdict struct {
	header http.Header
	status int
}

func (v *verdict) Header() http.Header         { return v.header }
func (v *verdict) WriteHeader(status int)      { v.status = status }
func (v *verdict) Write(p []byte) (int, error) { return len(p), nil }
