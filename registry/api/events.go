package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

const (
	// heartbeat is how often a stream that has nothing to say sends a comment, so that both ends and what is between them know of each other.
	heartbeat = 15 * time.Second
	// streamWrite bounds one write to a reader: one that does not read is let go, and comes back with the id of what it read last.
	streamWrite = 10 * time.Second
	// maxStreams bounds the streams at once; the rest of the connections is for requests.
	maxStreams = 128
)

// getEvents streams events (https://html.spec.whatwg.org/multipage/server-sent-events.html). A reader that names the last event that it has seen
// gets those behind it, or the event "gap" where some are kept no more.
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	q, err := s.eventQuery(r)
	if err != nil {
		return err
	}
	if s.streams.Add(1) > maxStreams {
		s.streams.Add(-1)
		e := problem(http.StatusTooManyRequests, "TOO_MANY_STREAMS", fmt.Sprintf("%d streams of events are open already", maxStreams), "Close some, or read GET /v1/pools.")
		e.Body.RetryAfterMS = time.Second.Milliseconds()
		return e
	}
	defer s.streams.Add(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	stop := context.AfterFunc(s.streaming, cancel) // the end of the server ends its streams
	defer stop()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return nil
	}
	out := &stream{w: w, control: http.NewResponseController(w)}
	if err := s.stream(ctx, out, q); err != nil && ctx.Err() == nil {
		s.log.Debug("a stream of events ended", "err", err)
	}
	return nil
}

// eventQuery is what a reader asks for.
type eventQuery struct {
	pool   string // empty: every pool, and the GPUs
	after  uint64
	gap    bool // what the reader saw last is of an earlier daemon
	follow bool
}

func (s *Server) eventQuery(r *http.Request) (eventQuery, error) {
	q := eventQuery{follow: true, after: s.registry.LastEvent()}
	for name, values := range r.URL.Query() {
		value := values[len(values)-1]
		switch name {
		case "pool":
			q.pool = value
		case "replay":
			if yes, err := strconv.ParseBool(value); err != nil {
				return q, invalidParams("replay is true or false", "")
			} else if yes {
				q.after = 0
			}
		case "follow":
			follow, err := strconv.ParseBool(value)
			if err != nil {
				return q, invalidParams("follow is true or false", "")
			}
			q.follow = follow
		default:
			return q, invalidParams(fmt.Sprintf("no parameter %.40q", name), "docs/openapi.yaml lists pool, replay and follow.")
		}
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		return q, nil
	}
	epoch, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	switch {
	case err != nil:
		return q, invalidParams("Last-Event-ID is none of this daemon's", "Leave it out, or send the id of the last event as it came.")
	case epoch != s.epoch:
		q.after, q.gap = 0, true
	default:
		q.after = seq
	}
	return q, nil
}

// stream writes events until ctx or the reader ends.
func (s *Server) stream(ctx context.Context, out *stream, q eventQuery) error {
	changed := s.registry.Watch(ctx)
	idle := time.NewTimer(heartbeat)
	defer idle.Stop()
	if err := out.comment("pool-managerd " + s.version); err != nil {
		return err
	}
	for {
		list, complete := s.registry.Events(q.after)
		if q.gap || !complete {
			q.gap = false
			if err := out.gap(); err != nil {
				return err
			}
		}
		for i := range list {
			q.after = list[i].Seq
			if q.pool != "" && list[i].PoolID != q.pool {
				continue
			}
			if err := out.event(s.epoch, &list[i]); err != nil {
				return err
			}
		}
		if !q.follow {
			return out.flush()
		}
		if len(list) > 0 {
			if err := out.flush(); err != nil {
				return err
			}
		}
		idle.Reset(heartbeat)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		case <-idle.C:
			if err := out.comment("alive"); err != nil {
				return err
			}
		}
	}
}

// stream is the reader's end.
type stream struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

func (o *stream) write(text string) error {
	if err := o.control.SetWriteDeadline(time.Now().Add(streamWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	_, err := o.w.Write([]byte(text))
	return err
}

func (o *stream) flush() error { return o.control.Flush() }

func (o *stream) comment(text string) error {
	if err := o.write(": " + text + "\n\n"); err != nil {
		return err
	}
	return o.flush()
}

// gap says that events were lost on the way.
func (o *stream) gap() error {
	return o.write("event: gap\ndata: {\"cause\":\"events between the last one that you saw and the next are kept no more; read GET /v1/pools\"}\n\n")
}

func (o *stream) event(epoch string, e *registry.Event) error {
	body, err := wire.Encode(wire.EventOf(e))
	if err != nil {
		return err
	}
	return o.write(fmt.Sprintf("id: %s-%d\nevent: %s\ndata: %s\n\n", epoch, e.Seq, e.Kind, strings.TrimSpace(string(body))))
}
