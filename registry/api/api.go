// Package api serves the registry over HTTP, on a unix socket and on TCP: pools, their health,
// their units, and metrics. It reads snapshots, so that no request waits for the daemon's other
// work.
//
// It owns routes, authorization, the format of errors, and a shutdown that loses no request. It
// must not know how anything is started: what is not in the registry comes from the Backend.
//
// Requests that arrive before the daemon has adopted running engines wait in the listening socket,
// since Serve is called after the adoption; so no answer is incomplete.
package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/history"
	"github.com/pool-managerd/pool-managerd/registry/api/page"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/catalogue"
)

// Backend is what the API needs from the daemon besides the registry. Its methods are called from
// many goroutines and must honour their context.
type Backend interface {
	// RenderUnit returns the pool's unit files, one after another, as an administrator would write
	// them. A *registry.Failure is the reason why there are none.
	RenderUnit(ctx context.Context, id string) (string, error)
}

// Options are the server's parts.
type Options struct {
	Registry *registry.Registry
	Backend  Backend
	Operator Operator      // nil: pools are read-only
	Library  Library       // nil: models are downloaded for pools alone
	Leases   *Leases       // nil: no leases
	History  *history.Book // nil: none is kept
	Bench    Bench         // nil: engines are not measured
	Fleet    Fleet         // nil: other hosts are not known
	// Memory is that of a unit; nil: not known.
	Memory   func(unit string) wire.Memory
	Metrics  http.Handler // serves /metrics; nil: there is no such route
	Peers    Peers        // nil: who opens a TCP connection is not known, and AuthOptional admits no one
	Counts   Counts
	Settings Settings
	Version  string // of the daemon, for GET /health
	Epoch    string // of the row of numbers of events; empty: they begin with this server
	Log      *slog.Logger
	Now      func() time.Time // the clock for the age of facts; nil: time.Now
}

// Server answers requests. Make one with New.
type Server struct {
	registry *registry.Registry
	backend  Backend
	operator Operator
	library  Library
	leases   *Leases
	history  *history.Book
	bench    Bench
	fleet    Fleet
	handouts handouts
	version  string
	log      *slog.Logger
	now      func() time.Time
	mux      *http.ServeMux
	routes   []route
	auth     atomic.Pointer[gate]
	list     [2]atomic.Pointer[encodedList] // with details, and without
	epoch    string                         // of the row of numbers of events
	peers    Peers
	count    Counts
	conns    *table // open connections, without those of event streams
	streams  *table
	refused  refusals
	repeats  repeats
	usage    usages
	leased   leaseTally

	operations operations // with an Idempotency-Key
	pace       pacer
	frames     [2]frames   // with details, and without
	health     [2]*answers // of each pool, with details, and without
	status     *answers
	// streaming is cancelled by endStreams when the shutdown begins.
	streaming  context.Context
	endStreams context.CancelFunc
	ending     atomic.Bool // answers have Connection: close
	answered   atomic.Uint64
	exposed    atomic.Bool // a listener is reachable from other hosts
}

// New returns a server. An unreadable token file is not an error, since engines need their manager
// even if callers over TCP are refused: no token is accepted until an Apply succeeds, and the cause
// is logged. An error means that a part is missing.
func New(o Options) (*Server, error) {
	if o.Registry == nil || o.Backend == nil || o.Log == nil {
		return nil, errors.New("api: a server needs a registry, a backend and a log")
	}
	s := &Server{registry: o.Registry, backend: o.Backend, operator: o.Operator, library: o.Library, leases: o.Leases,
		history: o.History, bench: o.Bench, fleet: o.Fleet, version: o.Version,
		log: o.Log, now: o.Now, mux: http.NewServeMux(), peers: o.Peers, count: o.Counts,
		conns: newTable(connLimits()), streams: newTable(streamLimits()),
		refused: refusals{wake: make(chan struct{}, 1)}, pace: newPacer()}
	if s.now == nil {
		s.now = time.Now
	}
	if s.usage.read = o.Memory; s.usage.read == nil {
		s.usage.read = func(string) wire.Memory { return wire.Memory{} }
	}
	s.health[0] = newAnswers(func(p *registry.Pool) any { return wire.HealthOf(p) })
	s.health[1] = newAnswers(func(p *registry.Pool) any { return wire.HealthOf(p.Public()) })
	s.status = newAnswers(func(p *registry.Pool) any { return wire.StatusOf(p) })
	if s.epoch = o.Epoch; s.epoch == "" {
		s.epoch = strconv.FormatInt(time.Now().UnixMilli(), 36)
	}
	s.streaming, s.endStreams = context.WithCancel(context.Background())
	if err := s.Apply(o.Settings); err != nil {
		f := registry.AsFailure(err, registry.CodeConfigInvalid, "")
		s.log.Error("a file of the API's access is unusable; no token is accepted over TCP: "+f.Message,
			"last_error", f.Error(), "hint", f.Hint, catalogue.Key, catalogue.AccessRefused)
		s.auth.Store(newGate(Settings{AuthOptional: o.Settings.AuthOptional,
			TrustProxyAuth: o.Settings.TrustProxyAuth}))
	}
	files, err := page.Load()
	if err != nil {
		return nil, err
	}
	s.addRoutes(o.Metrics, files)
	return s, nil
}

// getHealth reports that this program answers; nothing about pools.
func (s *Server) getHealth(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, wire.Health{Status: "ok", Version: s.version})
}

// encodedList is the answer of GET /v1/pools for one version of the registry, shared by all callers
// until the next write. Ageing facts about GPUs cause no write.
type encodedList struct {
	version, beats uint64
	old            bool
	body           encoded
}

func (s *Server) getPools(w http.ResponseWriter, r *http.Request) error {
	version, beats := s.registry.Version()
	now := s.now()
	old := s.registry.Devices().Old(now)
	which := audience(w)
	cached := s.list[which].Load()
	if cached == nil || cached.version != version || cached.beats != beats || cached.old != old {
		shown := s.registry.Snapshot().At(now)
		if which != 0 {
			shown = public(shown)
		}
		body, err := encodeList(wire.ListOf(shown))
		if err != nil {
			return err
		}
		// The version was read before the encoding: a write in between costs one more encoding.
		cached = &encodedList{version, beats, old, body}
		s.list[which].Store(cached)
	}
	return cached.body.writeUnlessKnown(w, r)
}

// audience returns 0 for a caller that sees the details of failures, and 1 for any other.
func audience(w http.ResponseWriter) int {
	if exchangeOf(w).caller.may >= accessDetails {
		return 0
	}
	return 1
}

// public returns a snapshot without the details of failures.
func public(s *registry.Snapshot) *registry.Snapshot {
	out := *s
	out.Pools = slices.Clone(s.Pools)
	for i, p := range out.Pools {
		out.Pools[i] = p.Public()
	}
	out.Problems = slices.Clone(s.Problems)
	for i, p := range out.Problems {
		out.Problems[i] = p.Public()
	}
	return &out
}

// pool returns the pool in the path, or the 404.
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
	if audience(w) != 0 {
		p = p.Public()
	}
	return answer(w, wire.PoolOf(p))
}

func (s *Server) getPoolHealth(w http.ResponseWriter, r *http.Request) error {
	return s.health[audience(w)].serve(s, w, r)
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

func (s *Server) getCapabilities(w http.ResponseWriter, r *http.Request) error {
	return answerList(w, r, wire.CapabilitiesOf(s.registry.Snapshot().Pools))
}

func (s *Server) getDevices(w http.ResponseWriter, r *http.Request) error {
	return answerList(w, r, wire.DevicesOf(s.registry.Devices(), s.now()))
}

// renderTimeout is how long a request waits for the daemon's loop to render.
const renderTimeout = 10 * time.Second

func (s *Server) getPoolUnit(w http.ResponseWriter, r *http.Request) error {
	p, err := s.pool(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), renderTimeout)
	defer cancel()
	text, err := s.backend.RenderUnit(ctx, p.ID)
	var f *registry.Failure
	if errors.As(err, &f) && f.Code == registry.CodeGPUUnavailable {
		// Not the pool is at fault, and it may be over soon: pool-gpu has not answered yet.
		e := problem(http.StatusServiceUnavailable, string(f.Code), f.Message, f.Hint)
		e.Body.RetryAfterMS = time.Second.Milliseconds()
		return e
	}
	if err != nil {
		return err
	}
	return answerBody(w, "text/plain; charset=utf-8", []byte(text))
}
