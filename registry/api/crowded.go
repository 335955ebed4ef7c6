package api

import (
	"context"
	"log/slog"
	"time"
)

// crowding is what happened to a connection or a stream because too many are open.
type crowding string

const (
	closedForOthers crowding = "closed"
	refusedNew      crowding = "refused"
)

// crowded counts a connection or stream that was closed or refused, and logs it at most once a
// minute for each caller.
func (s *Server) crowded(what subject, how crowding, who account) {
	s.count.crowded(what.kind(), string(how))
	if n, log := s.repeats.pass(repeatKey{what, who}, time.Now()); log {
		s.logRepeats(repeatKey{what, who}, n)
	}
}

// kind is a subject's value of the metrics' label kind.
func (b subject) kind() string {
	if b == subjectStreams {
		return "stream"
	}
	return "request"
}

// logRepeats writes the line of a subject that came up n times since the last line.
func (s *Server) logRepeats(k repeatKey, n int) {
	message := "requests were denied"
	switch k.subject {
	case subjectConnections:
		message = "too many connections are open; some of this caller were closed or refused"
	case subjectStreams:
		message = "too many event streams are open; some of this caller were closed or refused"
	}
	s.log.LogAttrs(context.Background(), slog.LevelWarn, message, slog.String("identity", k.account.String()),
		slog.Int("count", n))
}

// tidy closes refused connections, and logs what was counted and not logged, until the returned
// function is called. Then it logs what is left of leases.
func (s *Server) tidy(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		repeated := time.NewTicker(repeatEvery)
		defer repeated.Stop()
		sweeps := time.NewTicker(time.Hour) // it ticks while there is something to sweep
		sweeps.Stop()
		defer sweeps.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.refused.wake:
				sweeps.Reset(sweepEvery)
			case <-sweeps.C:
				if !s.refused.sweep() {
					sweeps.Stop()
				}
			case now := <-repeated.C:
				s.logLeases()
				for k, n := range s.repeats.due(now) {
					s.logRepeats(k, n)
				}
			}
		}
	}()
	return func() {
		cancel()
		<-ended
		s.logLeases()
		s.refused.closeAll()
	}
}

// Counts are what the server counts; a function that is nil counts nothing.
type Counts struct {
	// Crowded counts a connection of that kind (request or stream) that was closed or refused
	// because too many are open.
	Crowded func(kind, outcome string)
	// Denied counts a request that was denied, by reason.
	Denied func(reason string)
	// Artifact counts bytes of the cache that were handed out.
	Artifact func(bytes int64)
}

func (c Counts) crowded(kind, outcome string) {
	if c.Crowded != nil {
		c.Crowded(kind, outcome)
	}
}

func (c Counts) denied(reason string) {
	if c.Denied != nil {
		c.Denied(reason)
	}
}

func (c Counts) artifact(bytes int64) {
	if c.Artifact != nil {
		c.Artifact(bytes)
	}
}

// Open returns how many connections and event streams are open.
func (s *Server) Open() (requests, streams int) { return s.conns.size(), s.streams.size() }
