package serve

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/fleet/status", s.getStatus)
	if s.o.Source == nil {
		mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
			fail(w, http.StatusConflict, registry.Fail(registry.CodeFleetNotConfigured,
				"this host reads no fleet: config.toml has no [etcd] endpoints",
				"Name the members of an etcd in [etcd] endpoints, then systemctl reload pool-managerd."))
		})
		return mux
	}
	mux.HandleFunc("GET /v1/fleet/pools", s.get(listPools))
	mux.HandleFunc("GET /v1/fleet/models", s.get(listModels))
	mux.HandleFunc("GET /v1/fleet/events", s.getEvents)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusNotFound, registry.Fail("NOT_FOUND", "no such path",
			"pool-fleet has GET /v1/fleet/pools, /v1/fleet/models, /v1/fleet/events and /v1/fleet/status; the rest is "+
				"at the manager's socket."))
	})
	return mux
}

// getStatus does not have etcd be read.
func (s *Server) getStatus(w http.ResponseWriter, _ *http.Request) {
	status := wire.FleetStatus{Publishing: []wire.FleetPublishing{}, Reading: s.reading()}
	for _, p := range s.o.Publishing {
		status.Publishing = append(status.Publishing, p.Status())
	}
	body, err := wire.Encode(status)
	if err != nil { // texts, numbers and lists of them
		fail(w, http.StatusInternalServerError, registry.Fail("INTERNAL", err.Error(), "Report this as a fault."))
		return
	}
	send(w, http.StatusOK, body)
}

// reading is how reading etcd goes.
func (s *Server) reading() wire.FleetReading {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := wire.FleetReading{State: "idle"}
	if !s.heard.IsZero() {
		r.SinceMS = s.heard.UnixMilli()
	}
	if s.set == nil {
		return r
	}
	r.State = "reading"
	if s.lost != nil {
		r.State = "lost"
	}
	r.Hosts, r.Pools, r.Conflicts = s.set.Count()
	return r
}

// listing is one of the lists of the view.
type listing int

const (
	listPools listing = iota
	listModels
	listings // how many there are
)

// of is the list of a view.
func (l listing) of(set *view.Set) any {
	if l == listModels {
		return set.Models()
	}
	return set.Pools()
}

func (s *Server) get(l listing) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, failure := s.list(r.Context(), l)
		if failure != nil {
			fail(w, http.StatusServiceUnavailable, failure)
			return
		}
		send(w, http.StatusOK, body)
	}
}

// list is the encoded view, once there is one.
func (s *Server) list(ctx context.Context, l listing) ([]byte, *registry.Failure) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		body, moved, failure := s.look(l)
		if body != nil || failure != nil {
			return body, failure
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return nil, registry.Fail(registry.CodeFleetUnavailable, "the fleet has not been read yet",
				"Try again. If that does not help, systemctl status pool-fleet has the reason.")
		}
	}
}

// look returns the encoded view, or why there is none, or what to wait for.
func (s *Server) look(l listing) (body []byte, moved <-chan struct{}, failure *registry.Failure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.want()
	switch {
	case s.lost != nil && (!s.set.Complete() || time.Since(s.heard) > s.o.TTL):
		text := "etcd cannot be read: " + s.lost.Error()
		if s.set.Complete() {
			text = fmt.Sprintf("etcd has not answered for %s: %v", time.Since(s.heard).Round(time.Second), s.lost)
		}
		return nil, nil, registry.Fail(registry.CodeFleetUnavailable, text, s.o.Hint(s.lost))
	case !s.set.Complete():
		return nil, s.moved, nil
	case s.bodies[l] == nil:
		encoded, err := wire.EncodeList(l.of(s.set), s.sizes[l]+s.sizes[l]/16)
		if err != nil { // texts, numbers and lists of them
			return nil, nil, registry.Fail(registry.CodeFleetUnavailable, err.Error(), "Report this as a fault.")
		}
		s.bodies[l], s.sizes[l] = encoded, len(encoded)
	}
	return s.bodies[l], nil, nil
}

// fail answers with an error, as the API does.
func fail(w http.ResponseWriter, status int, f *registry.Failure) {
	e := wire.Error{Code: string(f.Code), Message: f.Message, Text: f.Message, Hint: f.Hint}
	if status == http.StatusServiceUnavailable {
		e.Retriable, e.RetryAfterMS = true, time.Second.Milliseconds()
		w.Header().Set("Retry-After", "1")
	}
	body, _ := wire.Encode(e) // texts
	send(w, status, body)
}

func send(w http.ResponseWriter, status int, body []byte) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(slow)) // where there is one
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // the caller is gone if this fails
}
