package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/catalogue"
)

// Values of headers that every answer shares. They are never changed.
var (
	nosniff  = []string{"nosniff"}
	noStore  = []string{"no-store"}
	closing  = []string{"close"}
	jsonType = []string{"application/json"}
)

// ServeHTTP answers one request: it assigns an id, finds the route, checks access, and logs it.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	from := connectionOf(r)
	from.last.Store(began.UnixNano())
	from.busy.Store(true)
	defer from.busy.Store(false)
	x := &exchange{ResponseWriter: w, from: from, caller: s.auth.Load().identify(r, from)}
	x.correlation[0] = correlationOf(r)
	h := w.Header()
	h[correlationHeader] = x.correlation[:]
	h["X-Content-Type-Options"] = nosniff
	h["Cache-Control"] = noStore
	if s.ending.Load() || x.caller.anonymous() {
		h["Connection"] = closing
	}
	defer s.finish(x, r, began)
	s.await(r.Context(), x, began)
	if refusal := s.unwelcome(x, r); refusal != nil {
		x.routed, x.denied = true, "origin"
		h["Connection"] = closing
		refusal.write(x)
		return
	}
	s.mux.ServeHTTP(x, r)
	if !x.routed {
		s.unrouted(x, r)
	}
}

// unwelcome returns the refusal of a request that a web page made a browser send, for every route.
func (s *Server) unwelcome(x *exchange, r *http.Request) *Error {
	if refusal := fromForeignPage(r); refusal != nil {
		return refusal
	}
	return s.misdirected(r, x.from, &x.caller)
}

// unrouted returns the error for a request without a route. The mux has already answered, into the
// exchange, which did not send it.
func (s *Server) unrouted(x *exchange, r *http.Request) {
	s.guarded(accessRead, func(w http.ResponseWriter, r *http.Request) error {
		switch {
		case x.ownStatus == http.StatusMethodNotAllowed:
			allow := withOptions(x.ownHeader.Get("Allow"))
			w.Header().Set("Allow", allow)
			if r.Method == http.MethodOptions {
				w.WriteHeader(http.StatusNoContent)
				return nil
			}
			return wrongMethod(r.Method, allow)
		}
		return noSuchRoute() // also for a path with // or .. in it, which the mux would redirect
	})(x, r)
}

// withOptions adds OPTIONS, which every path answers, in alphabetical order.
func withOptions(allow string) string {
	methods := append(strings.Split(allow, ", "), http.MethodOptions)
	slices.Sort(methods)
	return strings.Join(methods, ", ")
}

// guarded refuses callers without the route's access, and sends the error that the handler returns.
func (s *Server) guarded(needs access, serve func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		x := exchangeOf(w)
		x.routed, x.reads = true, needs < accessWrite
		if x.caller.may < needs {
			denied := x.caller.denied(needs)
			x.denied = x.caller.reason()
			if denied.Status == http.StatusUnauthorized {
				w.Header().Set("WWW-Authenticate", `Bearer realm="pool-managerd"`) // RFC 9110 11.6.1
			}
			denied.write(w)
			return
		}
		if refusal := x.caller.with.outside(r); refusal != nil {
			x.denied = "forbidden"
			refusal.write(w)
			return
		}
		if needs == accessWrite {
			if refusal := isForm(r, &x.caller); refusal != nil {
				x.denied = "origin"
				refusal.write(w)
				return
			}
		}
		if err := serve(w, r); err != nil {
			e := asError(err)
			if e.Status == http.StatusInternalServerError {
				s.log.Error("a request failed", "correlation_id", x.correlation[0], "path", loggedPath(r), "err", err)
			}
			e.write(w)
		}
	}
}

// finish turns a handler's panic into one 500 and logs the request.
func (s *Server) finish(x *exchange, r *http.Request, began time.Time) {
	if p := recover(); p != nil {
		s.log.Error("a request handler panicked", "correlation_id", x.correlation[0], "method", r.Method,
			"path", loggedPath(r), "err", fmt.Sprint(p), "stack", string(debug.Stack()))
		if x.status != 0 {
			s.logRequest(x, r, began)
			// part of the response is sent: abort it, so that the caller sees that it is incomplete
			panic(http.ErrAbortHandler)
		}
		x.routed = true
		broken().write(x)
	}
	s.logRequest(x, r, began)
	s.answered.Add(1)
}

// Answered returns how many requests the server has answered. It may be called from any goroutine.
func (s *Server) Answered() uint64 { return s.answered.Load() }

// logRequest logs a request: one that asks for a change at info level, with the operation. Reads
// are logged at debug level, and leases, which are counted for an entry a minute. Denied requests
// have a line a minute for each caller, with their number.
func (s *Server) logRequest(x *exchange, r *http.Request, began time.Time) {
	level := slog.LevelInfo
	switch {
	case x.status >= 500:
		level = slog.LevelError
	case x.denied != "", x.status == http.StatusForbidden:
		level = slog.LevelWarn
	case x.reads:
		level = slog.LevelDebug
	case x.ofLeases():
		s.leased.add(x.caller.identity(), x.operation, x.status)
		level = slog.LevelDebug
	}
	denied := 0
	if x.denied != "" {
		s.count.denied(x.denied)
		var log bool
		if denied, log = s.repeats.pass(repeatKey{subjectDenied, x.from.account}, began); !log {
			return
		}
	}
	if !s.log.Enabled(r.Context(), level) {
		return
	}
	path, identity := loggedPath(r), x.caller.identity()
	attrs := []slog.Attr{
		slog.String("correlation_id", x.correlation[0]), slog.String("identity", identity),
		slog.String("method", r.Method), slog.String("path", path),
		slog.Int("status", x.status), slog.Int64("duration_ms", time.Since(began).Milliseconds()),
	}
	if name := x.caller.tokenName(); name != "" {
		attrs = append(attrs, slog.String("token_name", name))
	}
	if x.operation != "" {
		attrs = append(attrs, slog.String("operation", x.operation),
			slog.String(catalogue.Key, catalogue.ChangeRequested))
	}
	if denied > 0 {
		attrs = append(attrs, slog.Int("count", denied))
	}
	if p, ok := s.registry.Find(r.PathValue("id")); ok {
		attrs = append(attrs, slog.String("pool_id", p.ID))
	}
	s.log.LogAttrs(r.Context(), level, fmt.Sprintf("%s requested %s %s: %d", identity, r.Method, path, x.status),
		attrs...)
}

// loggedPath is the path as sent, escaped and of limited length, since the caller chooses it.
func loggedPath(r *http.Request) string {
	path := r.URL.EscapedPath()
	return path[:min(len(path), 256)]
}
