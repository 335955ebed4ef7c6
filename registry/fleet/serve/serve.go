// Package serve shows the fleet on a unix socket of this host, over HTTP: the list, and a stream of
// what changes, so that no other program of this host needs a client of etcd.
//
// It owns when etcd is read (while someone asks, and for a while after), how old an answer may be,
// and what happens to readers that are slow. It must not know how etcd is read.
package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/fleet"
	"github.com/pool-managerd/pool-managerd/registry/fleet/view"
)

// Bounds of what callers may take.
const (
	// linger is how long etcd is read on after the last request: a program that polls is answered
	// from memory.
	linger = time.Minute
	// patience is how long a request waits for the first list. Clients wait three seconds.
	patience    = 2500 * time.Millisecond
	connections = 128 // open at once; others wait in the socket
	streams     = 32
	queue       = 256 // batches that a stream may be behind
	sign        = 15 * time.Second
	slow        = 10 * time.Second // for one write
)

// Source is what reads the fleet; *etcd.Reader is one.
type Source interface {
	// Watch delivers batches until ctx ends.
	Watch(ctx context.Context, deliver func(view.Batch))
}

// Options are what is served.
type Options struct {
	Source Source // nil: there is no etcd, and the status alone is served
	// Publishing is how publishing this host goes, in each place.
	Publishing []*fleet.Progress
	Prefix     string
	TTL        time.Duration          // how old an answer may be while etcd is away: what hosts' leases have
	Hint       func(err error) string // what to do about an error of the source
	Log        *slog.Logger
}

// Server serves the fleet. Make one with New.
type Server struct {
	o      Options
	wanted chan struct{}

	mu      sync.Mutex
	set     *view.Set        // nil: nothing is read now
	bodies  [listings][]byte // the lists, encoded; nil: it changed
	sizes   [listings]int    // of each when it was encoded last
	heard   time.Time        // of etcd, the last time
	lost    error            // nil: etcd answers
	asked   time.Time        // the last request
	moved   chan struct{}    // closed when one of these changed
	streams map[*stream]bool
}

// New returns a server, which reads nothing before it is asked.
func New(o Options) *Server {
	return &Server{o: o, wanted: make(chan struct{}, 1), moved: make(chan struct{}), streams: map[*stream]bool{}}
}

// Serve answers on a listener until ctx ends, and closes it.
func (s *Server) Serve(ctx context.Context, l net.Listener) {
	var all sync.WaitGroup
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second,
		MaxHeaderBytes: 16 << 10, BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog: slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug)}
	all.Go(func() { s.read(ctx) })
	all.Go(func() {
		<-ctx.Done()
		_ = server.Close() // requests end with ctx
	})
	if err := server.Serve(limit(l, connections)); !errors.Is(err, http.ErrServerClosed) {
		s.o.Log.Error("the fleet is not served any longer: "+err.Error(), "hint", "systemctl restart pool-fleet")
	}
	all.Wait()
}

// read follows etcd while someone asks for the fleet.
func (s *Server) read(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wanted:
			s.follow(ctx)
		}
	}
}

func (s *Server) follow(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var source sync.WaitGroup
	source.Go(func() { s.o.Source.Watch(ctx, s.take) })
	tick := time.NewTicker(linger / 4)
	defer tick.Stop()
	for idle := false; !idle; {
		select {
		case <-ctx.Done():
			idle = true
		case <-tick.C:
			idle = s.idle()
		}
	}
	cancel()
	source.Wait()
	s.forget()
	debug.FreeOSMemory() // a large fleet would stay resident for hours
}

// forget drops what was read.
func (s *Server) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.set, s.bodies, s.lost = nil, [listings][]byte{}, nil
	if len(s.streams) > 0 || time.Since(s.asked) < linger { // who came while it ended
		s.want()
	}
	s.move()
}

// idle reports whether no one has asked for a while.
func (s *Server) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.streams) == 0 && time.Since(s.asked) >= linger
}

// want has etcd be read. The caller holds the lock.
func (s *Server) want() {
	s.asked = time.Now()
	if s.set == nil {
		s.set = view.New(s.o.Prefix)
		select {
		case s.wanted <- struct{}{}:
		default:
		}
	}
}

// take applies what was read, and passes changes on to the streams.
func (s *Server) take(b view.Batch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.set == nil {
		return // between the end of reading and the next request
	}
	changes := s.set.Apply(b)
	if len(changes) > 0 {
		s.bodies = [listings][]byte{}
	}
	var frames []byte
	if len(s.streams) > 0 {
		frames = framesOf(changes)
	}
	switch b.Kind {
	case view.Lost:
		if s.lost == nil {
			s.o.Log.Info("the fleet cannot be read: "+b.Err.Error(), "hint", s.o.Hint(b.Err))
			frames = append(frames, lostFrame(b.Err, s.o.Hint(b.Err))...)
		}
		s.lost = b.Err
	case view.End:
		s.lost, s.bodies = nil, [listings][]byte{}
		frames = append(frames, syncedFrame(b.Revision)...)
		s.heard = time.Now()
	case view.Changed, view.Alive:
		s.heard = time.Now()
		if b.Kind == view.Changed {
			s.bodies = [listings][]byte{} // the revision is another one
		}
	case view.Begin, view.Page:
		return
	}
	s.pass(frames)
	s.move()
}

// move wakes the requests that wait. The caller holds the lock.
func (s *Server) move() {
	close(s.moved)
	s.moved = make(chan struct{})
}

// pass hands frames to every stream; one that is too far behind ends.
func (s *Server) pass(frames []byte) {
	if len(frames) == 0 {
		return
	}
	for st := range s.streams {
		select {
		case st.frames <- frames:
		default:
			s.o.Log.Debug("a reader of the fleet is too slow; its stream ends")
			delete(s.streams, st)
			close(st.frames)
		}
	}
}
