package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

const (
	// heartbeat is how often each stream sends a comment, whatever else it sends, so that both ends
	// and proxies between them keep the connection.
	heartbeat = 15 * time.Second
	// streamWrite is the timeout of one write: a reader that does not read is dropped, and can
	// reconnect with the id of its last event.
	streamWrite = 10 * time.Second
)

// streamLimits are those of open streams. They do not count as connections of requests.
func streamLimits() limits { return limits{all: 1000, ordinary: 900, each: 300} }

// getEvents streams events (https://html.spec.whatwg.org/multipage/server-sent-events.html). A
// reader that sends the id of its last event gets those after it, or the event "gap" if some are no
// longer kept.
//
// A stream lasts for hours in this function, below all of net/http: what it takes of the stack
// counts a thousand times, so that all else is in openStream. Go shrinks a stack to its least of
// 8 KiB only while less than 4 KiB of it are in use (BenchmarkStreams).
func (s *Server) getEvents(w http.ResponseWriter, r *http.Request) error {
	ctx, out, err := s.openStream(w, r)
	if err != nil || out == nil {
		return err
	}
	defer out.end()
	if err := s.stream(ctx, out); err != nil && ctx.Err() == nil {
		s.log.Debug("an event stream ended", "err", err)
	}
	return nil
}

// openStream has a stream admitted; nil: the request has been answered.
func (s *Server) openStream(w http.ResponseWriter, r *http.Request) (context.Context, *stream, error) {
	// net/http notices the end of a connection only after the request's body, which a caller could
	// leave unfinished.
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 {
		w.Header().Set("Connection", "close")
		return nil, nil, invalidParams("a request for events has no body",
			"Send it without Content-Length and Transfer-Encoding.")
	}
	q, err := s.eventQuery(r)
	if err != nil {
		return nil, nil, err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return nil, nil, nil
	}
	ctx, cancel := context.WithCancel(r.Context())
	leave := func() {}
	if q.follow {
		if leave, err = s.admitStream(connectionOf(r), cancel); err != nil {
			cancel()
			return nil, nil, err
		}
		w.Header().Set("Connection", "close")
	}
	stop := context.AfterFunc(s.streaming, cancel) // the server's shutdown ends its streams
	end := func() {
		stop()
		leave()
		cancel()
	}
	return ctx, &stream{q: q, end: end, w: w, audience: audience(w), control: http.NewResponseController(w)}, nil
}

// admitStream moves a connection from the table of requests to that of streams.
func (s *Server) admitStream(c *connection, cancel func()) (leave func(), err error) {
	began := time.Now().UnixNano()
	e := &entry{account: c.account, idle: func() (int64, bool) { return began, true }, close: cancel}
	evicted, ok := s.streams.admit(e, began)
	if evicted != nil {
		evicted.close()
		s.crowded(subjectStreams, closedForOthers, evicted.account)
	}
	if !ok {
		s.crowded(subjectStreams, refusedNew, e.account)
		e := problem(http.StatusTooManyRequests, "TOO_MANY_STREAMS", "too many event streams are open",
			"Close some, or read GET /v1/pools.")
		e.Body.RetryAfterMS = time.Second.Milliseconds()
		return nil, e
	}
	c.uncount()
	return func() { s.streams.leave(e) }, nil
}

// eventQuery is what a reader asks for.
type eventQuery struct {
	pool   string // empty: every pool, and the GPUs
	kinds  []registry.Kind
	after  uint64
	gap    bool // the reader's last event is of another row of numbers
	replay bool // from the oldest that is kept
	follow bool
}

func (s *Server) eventQuery(r *http.Request) (eventQuery, error) {
	q := eventQuery{follow: true, after: s.registry.LastEvent()}
	for name, given := range r.URL.Query() {
		if err := q.set(name, given[0]); err != nil {
			return q, err
		}
	}
	last := r.Header.Get("Last-Event-ID")
	if last == "" {
		if q.replay {
			q.after = 0
		}
		return q, nil
	}
	q.replay = false
	epoch, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	switch {
	case err != nil:
		return q, invalidParams("Last-Event-ID was not issued by this daemon",
			"Omit it, or send the id of the last event unchanged.")
	case epoch != s.epoch, seq > s.registry.LastEvent():
		q.after, q.gap = 0, true
	default:
		q.after = seq
	}
	return q, nil
}

// set applies a parameter.
func (q *eventQuery) set(name, value string) (err error) {
	switch name {
	case "pool":
		q.pool = value
	case "kind":
		for kind := range strings.SplitSeq(value, ",") {
			if !slices.Contains(registry.Kinds(), registry.Kind(kind)) {
				return invalidParams(fmt.Sprintf("unknown kind %.40q", kind), lists+"the kinds.")
			}
			q.kinds = append(q.kinds, registry.Kind(kind))
		}
	case "replay":
		if q.replay, err = strconv.ParseBool(value); err != nil {
			return invalidParams("replay must be true or false", "")
		}
	case "follow":
		if q.follow, err = strconv.ParseBool(value); err != nil {
			return invalidParams("follow must be true or false", "")
		}
	}
	return nil
}

// wants reports whether the reader asked for an event.
func (q *eventQuery) wants(e *registry.Event) bool {
	return (q.pool == "" || e.PoolID == q.pool) && (q.kinds == nil || slices.Contains(q.kinds, e.Kind))
}

// stream writes events until ctx ends or a write fails. Only events and its own heartbeat
// wake it. Unsent events are in the registry's ring and not in a queue of its own: a reader that
// falls behind by more than the ring's size gets a gap, and one that does not read is dropped at
// the write's deadline.
func (s *Server) stream(ctx context.Context, out *stream) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if err := out.comment("pool-managerd " + s.version); err != nil {
		return err
	}
	for {
		more := s.registry.NextEvent()
		if err := s.sendNew(out); err != nil || !out.q.follow {
			return err
		}
		select {
		case <-beat.C: // however many events there are
			if err := out.comment("alive"); err != nil {
				return err
			}
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-more:
		case <-beat.C:
			if err := out.comment("alive"); err != nil {
				return err
			}
		}
	}
}

// sendNew sends the events that the reader has not got yet.
func (s *Server) sendNew(out *stream) error {
	q := &out.q
	list, missed := s.registry.Events(q.after)
	switch {
	case q.gap:
		missed = registry.MissedUnknown
	case q.replay:
		missed = 0
	}
	q.replay = false
	if missed != 0 {
		q.gap = false
		if err := out.gap(s.epoch, s.registry.LastEvent()-uint64(len(list)), missed); err != nil {
			return err
		}
	}
	for i := range list {
		q.after = list[i].Seq
		if !q.wants(&list[i]) {
			continue
		}
		text, err := s.frame(out.audience, &list[i])
		if err != nil {
			return err
		}
		if err := out.write(text); err != nil {
			return err
		}
	}
	return out.flush()
}

// frame returns an event as an audience sees it.
func (s *Server) frame(which int, e *registry.Event) ([]byte, error) {
	if which != 0 {
		e = e.Public()
	}
	return s.frames[which].of(s.epoch, e)
}

// stream is the reader's end.
type stream struct {
	q        eventQuery
	end      func()
	w        http.ResponseWriter
	audience int
	control  *http.ResponseController
	pending  bool // something was written since the last flush
}

func (o *stream) write(text []byte) error {
	if !o.pending {
		deadline := time.Now().Add(streamWrite)
		if err := o.control.SetWriteDeadline(deadline); err != nil && !errors.Is(err, http.ErrNotSupported) {
			return err
		}
	}
	o.pending = true
	_, err := o.w.Write(text)
	return err
}

func (o *stream) flush() error {
	if !o.pending {
		return nil
	}
	o.pending = false
	return o.control.Flush()
}

func (o *stream) comment(text string) error {
	if err := o.write([]byte(": " + text + "\n\n")); err != nil {
		return err
	}
	return o.flush()
}

// gap reports to the reader that events are missing, up to the given number, and how many.
func (o *stream) gap(epoch string, upTo uint64, missed int64) error {
	g := wire.Gap{UpToSeq: upTo,
		Cause: "some events before the next one are no longer kept; read the current state with GET /v1/pools"}
	if missed != registry.MissedUnknown {
		g.Missed = &missed
	}
	body, err := wire.Encode(g)
	if err != nil {
		return err
	}
	return o.write(fmt.Appendf(nil, "id: %s-%d\nevent: gap\ndata: %s\n\n", epoch, upTo, bytes.TrimSpace(body)))
}
