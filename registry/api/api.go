// Package api serves the registry over HTTP, alike on a unix socket and on TCP: pools, their health, their
// units, and metrics. It reads snapshots, so that no request waits for what the daemon is doing.
//
// It owns routes, who may call, the shape of errors, and an end that loses no request. It must not
// know how anything is started: what it cannot read from the registry it asks of the Backend.
//
// Requests that come before the daemon has adopted what runs wait in the listening socket, since Serve is called
// only then; so there is no "not yet" answer, and none that is wrong.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Backend is what the API asks of the daemon beside the registry. Calls come from many goroutines and
// must honour their context.
type Backend interface {
	// RenderUnit returns the pool's unit, or units one after another, as an administrator would write
	// the file. A *registry.Failure says why there is none.
	RenderUnit(ctx context.Context, id string) (string, error)
}

// Options are the server's parts.
type Options struct {
	Registry *registry.Registry
	Backend  Backend
	Operator Operator     // nil: pools can only be looked at
	Leases   *Leases      // nil: nothing can be held
	Metrics  http.Handler // serves /metrics; nil: there is no such route
	Settings Settings
	Version  string // of the daemon, for GET /health
	Log      *slog.Logger
	Now      func() time.Time // the age of facts is told by it; nil: time.Now
}

// Server answers requests. Make one with New.
type Server struct {
	registry *registry.Registry
	backend  Backend
	operator Operator
	leases   *Leases
	version  string
	log      *slog.Logger
	now      func() time.Time
	mux      *http.ServeMux
	routes   []route
	auth     atomic.Pointer[gate]
	list     atomic.Pointer[encodedList]
	epoch    string // of this server's events: their numbers begin anew with each
	streams  atomic.Int32
	frames   frames
	health   *answers // of each pool
	status   *answers
	// streaming ends when the server begins to end; endStreams ends it.
	streaming  context.Context
	endStreams context.CancelFunc
	ending     atomic.Bool // answers tell keep-alive connections to close
	exposed    atomic.Bool // a listener is reachable from other hosts
}

// New makes a server. A token file that cannot be read does not stop it, since engines need their manager more than
// callers over TCP need the API: no token is right until an Apply succeeds, and the log says why. An error means that
// a part is missing.
func New(o Options) (*Server, error) {
	if o.Registry == nil || o.Backend == nil || o.Log == nil {
		return nil, errors.New("api: a server needs a registry, a backend and a log")
	}
	s := &Server{registry: o.Registry, backend: o.Backend, operator: o.Operator, leases: o.Leases, version: o.Version, log: o.Log, now: o.Now, mux: http.NewServeMux()}
	if s.now == nil {
		s.now = time.Now
	}
	s.health = newAnswers(func(p *registry.Pool) any { return wire.HealthOf(p) })
	s.status = newAnswers(func(p *registry.Pool) any { return wire.StatusOf(p) })
	s.epoch = strconv.FormatInt(time.Now().UnixMilli(), 36)
	s.streaming, s.endStreams = context.WithCancel(context.Background())
	if err := s.Apply(o.Settings); err != nil {
		f := registry.AsFailure(err, registry.CodeConfigInvalid, "")
		s.log.Error("the token file is unusable; no token is accepted over TCP: "+f.Message, "last_error", f.Error(), "hint", f.Hint)
		s.auth.Store(&gate{settings: Settings{AuthOptional: o.Settings.AuthOptional, TrustProxyAuth: o.Settings.TrustProxyAuth}, group: lookupGroup(Group)})
	}
	s.addRoutes(o.Metrics)
	return s, nil
}

// getHealth says that this program answers; nothing about pools.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, wire.Health{Status: "ok", Version: s.version})
}

// encodedList is the answer of GET /v1/pools for what the registry held at one moment, shared by all callers before the
// next write. Facts about GPUs that only grow old are no write.
type encodedList struct {
	version, beats uint64
	old            bool
	body           encoded
}

func (s *Server) getPools(w http.ResponseWriter, _ *http.Request) error {
	version, beats := s.registry.Version()
	now := s.now()
	old := s.registry.Devices().Old(now)
	cached := s.list.Load()
	if cached == nil || cached.version != version || cached.beats != beats || cached.old != old {
		body, err := encodeOnce(wire.ListOf(s.registry.Snapshot().At(now)))
		if err != nil {
			return err
		}
		// The numbers are older than what was encoded, if anything: a write in between costs one more encoding.
		cached = &encodedList{version, beats, old, body}
		s.list.Store(cached)
	}
	return cached.body.write(w)
}

// pool returns the pool that the path names, or the 404.
func (s *Server) pool(r *http.Request) (*registry.Pool, error) {
	id := r.PathValue("id")
	if p, ok := s.registry.PoolAt(id, s.now()); ok {
		return p, nil
	}
	return nil, noSuchPool(id)
}

func (s *Server) getPool(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	return answer(w, wire.PoolOf(p))
}

func (s *Server) getPoolHealth(w http.ResponseWriter, r *http.Request) error {
	return s.health.serve(s, w, r)
}

func (s *Server) getPoolStatus(w http.ResponseWriter, r *http.Request) error {
	return s.status.serve(s, w, r)
}

// postPoolStatus answers clients that send an empty object.
func (s *Server) postPoolStatus(w http.ResponseWriter, r *http.Request) error {
	if err := readBody(w, r, &struct{}{}); err != nil {
		return err
	}
	return s.getPoolStatus(w, r)
}

func (s *Server) getVersion(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, wire.Version{APIVersion: wire.APIVersion, Version: s.version})
}

func (s *Server) getCapabilities(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, wire.CapabilitiesOf(s.registry.Snapshot().Pools))
}

func (s *Server) getDevices(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, wire.DevicesOf(s.registry.Devices(), s.now()))
}

// renderTimeout bounds how long a request waits for the daemon's loop to render.
const renderTimeout = 10 * time.Second

func (s *Server) getPoolUnit(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), renderTimeout)
	defer cancel()
	text, err := s.backend.RenderUnit(ctx, p.ID)
	if err != nil {
		return err
	}
	return answerBody(w, "text/plain; charset=utf-8", []byte(text))
}
