package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits of a connection. A local status API has small requests and answers within milliseconds;
// the limits are there for callers that are broken or hostile.
const (
	maxHeaderBytes    = 16 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second // of a whole request
	writeTimeout      = 30 * time.Second // from the request's header to the end of the answer
	idleTimeout       = 75 * time.Second // above the 60 s after which most clients close an idle connection
	// slowRequest is how long a request may take before its connection may be closed for another
	// caller's: a caller that sends its body, or reads its answer, in small pieces holds no place.
	slowRequest = time.Second
	// connLinger is how long a refused connection's answer may take to be written.
	connLinger = 10 * time.Millisecond
)

// connLimits are those of open connections, of all listeners together and without event streams.
func connLimits() limits { return limits{all: 512, ordinary: 384, each: 256, swap: true} }

// Limits of the shutdown.
const (
	// After the listeners are closed, idle connections stay open for lingerLooks times lingerPause:
	// a request already in transit is answered, with Connection: close, and does not get an end of
	// file. Pauses are counted and not the time, so that a stalled host does not use them up before
	// callers have run.
	lingerLooks = 40
	lingerPause = 25 * time.Millisecond
	// endTimeout is how long requests in progress may take after that.
	endTimeout = 5 * time.Second
)

// Serve answers on the listeners until ctx ends, then shuts down without losing a request, and
// returns nil. It owns the listeners.
//
// The shutdown, for a restart under socket activation: (1) no connection is accepted; new ones wait
// in the socket, which PID 1 keeps open, for the next daemon. The socket's path is not unlinked.
// (2) Every accepted connection gets its answer, with Connection: close. (3) Idle connections are
// closed after a second, the others after endTimeout.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	open := make([]*limited, 0, len(listeners))
	for _, l := range listeners {
		if ul, ok := l.(*net.UnixListener); ok {
			ul.SetUnlinkOnClose(false)
		}
		open = append(open, &limited{Listener: l, server: s})
	}
	if err := s.admit(listeners); err != nil {
		closeAll(open)
		return err
	}
	srv := &http.Server{
		Handler: s, ConnContext: withConnection, MaxHeaderBytes: maxHeaderBytes,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout,
		IdleTimeout: idleTimeout,
		ErrorLog:    slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
	failed := make(chan error, len(open))
	stop := s.tidy(context.WithoutCancel(ctx))
	defer stop()
	var accepting sync.WaitGroup
	for _, l := range open {
		accepting.Go(func() {
			if err := srv.Serve(s.secure(l)); err != nil && !errors.Is(err, net.ErrClosed) {
				failed <- fmt.Errorf("listener %s: %w", l.Addr(), err)
			}
		})
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.ending.Store(true)
	s.endStreams()
	closeAll(open)
	// Each accept loop returns after it has handed over its last connection: none is missed between
	// the end of accepting and the count of open connections.
	accepting.Wait()
	return errors.Join(err, s.end(srv))
}

// end waits for accepted requests to finish.
func (s *Server) end(srv *http.Server) error {
	for i := 0; i < lingerLooks && s.conns.size() > 0; i++ {
		time.Sleep(lingerPause)
	}
	ctx, cancel := context.WithTimeout(context.Background(), endTimeout)
	defer cancel()
	err := srv.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("closed connections whose requests did not finish before the deadline", "deadline_ms",
			endTimeout.Milliseconds())
		return srv.Close()
	}
	return err
}
