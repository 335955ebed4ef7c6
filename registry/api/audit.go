package api

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"

	"github.com/pool-managerd/pool-managerd/registry/catalogue"
)

// changes are the operations that change something, by method and path of their routes. Each
// request for one is an entry of the log, answered or refused; those for leases, of which there may
// be thousands a second, are counted for an entry a minute and caller.
var changes = map[string]string{
	"POST /v1/pools/{id}/drain":            "drain",
	"POST /v1/pools/{id}/resume":           "resume",
	"POST /v1/pools/{id}/restart":          "restart",
	"POST /v1/pools/{id}/reset":            "reset",
	"POST /v1/pools/{id}/reload":           "reload",
	"POST /v1/pools/{id}/preload":          "preload",
	"POST /v1/pools/{id}/bench":            "bench",
	"DELETE /v1/pools/{id}":                "unload",
	"POST /v1/reload":                      "reload_files",
	"POST /v1/downloads":                   "download",
	"POST /v1/pools/{id}/leases":           leaseTake,
	"PUT /v1/pools/{id}/leases/{lease}":    leaseRenew,
	"DELETE /v1/pools/{id}/leases/{lease}": leaseRelease,
}

// The operations on leases.
const (
	leaseTake    = "lease"
	leaseRenew   = "renew_lease"
	leaseRelease = "release_lease"
)

// auditing notes the operation that a request is for.
func auditing(operation string, serve http.HandlerFunc) http.HandlerFunc {
	if operation == "" {
		return serve
	}
	return func(w http.ResponseWriter, r *http.Request) {
		exchangeOf(w).operation = operation
		serve(w, r)
	}
}

// ofLeases reports whether a request was for a lease, and was answered by the book of leases: with
// a lease, or with a refusal that callers get as often as they ask.
func (x *exchange) ofLeases() bool {
	switch x.operation {
	case leaseTake, leaseRenew, leaseRelease:
		return x.denied == "" && x.status < http.StatusInternalServerError && x.status != http.StatusForbidden
	}
	return false
}

// leaseCount is what one caller asked of leases since the last entry.
type leaseCount struct{ taken, renewed, released, refused int }

// leaseTally counts requests for leases by caller.
type leaseTally struct {
	mu    sync.Mutex
	known map[string]*leaseCount // by identity
}

// add counts a request.
func (t *leaseTally) add(identity, operation string, status int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.known == nil {
		t.known = make(map[string]*leaseCount)
	}
	n := t.known[identity]
	if n == nil {
		if len(t.known) >= repeatKeys {
			identity = account{kind: accountOthers}.String()
		}
		if n = t.known[identity]; n == nil {
			n = &leaseCount{}
			t.known[identity] = n
		}
	}
	switch {
	case status >= http.StatusBadRequest:
		n.refused++
	case operation == leaseTake:
		n.taken++
	case operation == leaseRenew:
		n.renewed++
	default:
		n.released++
	}
}

// take returns the counts, and begins again.
func (t *leaseTally) take() map[string]*leaseCount {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := t.known
	t.known = nil
	return out
}

// logLeases writes an entry for each caller that asked for leases since the last time.
func (s *Server) logLeases() {
	for identity, n := range s.leased.take() {
		text := fmt.Sprintf("%s took %d, renewed %d and released %d leases; %d requests were refused", identity,
			n.taken, n.renewed, n.released, n.refused)
		s.log.LogAttrs(context.Background(), slog.LevelInfo, text,
			slog.String("identity", identity), slog.Int("taken", n.taken), slog.Int("renewed", n.renewed),
			slog.Int("released", n.released), slog.Int("refused", n.refused),
			slog.Int64("window_ms", repeatEvery.Milliseconds()), slog.String(catalogue.Key, catalogue.LeasesCounted))
	}
}
