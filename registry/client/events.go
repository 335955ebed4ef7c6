package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
	"time"
)

// eventLine bounds one line of a stream, in bytes. An event with the last log lines of an engine
// has a few thousand.
const eventLine = 1 << 20

// Event is one of a stream of server-sent events.
type Event struct {
	ID   string // of LastEventID, to resume after it
	Kind string // as in GetEventsParams, or "gap"
	Data []byte // JSON: a wire.Event, or of a gap a wire.Gap
}

// silent is how long a stream that is followed may have no line: the manager sends one at least
// every 15 seconds.
const silent = 45 * time.Second

// Stream is a stream of events. It is of one goroutine.
type Stream struct {
	body  io.Closer
	lines *bufio.Scanner
	last  Event // its id stays until another one comes
	broke func(error) error
	heard func()
	end   func()
}

// stream opens a stream. It breaks when the manager is silent for too long.
func stream(ctx context.Context, c *Client, r request) (*Stream, error) {
	limit := c.within(r)
	ctx, cancel := context.WithCancelCause(ctx)
	quiet := time.AfterFunc(limit, func() { cancel(&silence{limit}) })
	end := func() { quiet.Stop(); cancel(nil) }
	resp, err := c.do(ctx, r)
	if err != nil {
		end()
		return nil, err
	}
	if r.query.Get("follow") != "false" {
		limit = silent
	}
	quiet.Reset(limit)
	s := &Stream{body: resp.Body, lines: bufio.NewScanner(resp.Body), end: end,
		heard: func() { quiet.Reset(limit) },
		broke: func(err error) error { return c.noAnswer(ctx, err) }}
	s.lines.Buffer(nil, eventLine)
	return s, nil
}

// Next waits for the next event; io.EOF is the stream's end, and *Unreachable one that broke: a
// reader that follows resumes it after the last id.
func (s *Stream) Next() (Event, error) {
	for s.lines.Scan() {
		s.heard()
		switch name, value, _ := strings.Cut(s.lines.Text(), ": "); name {
		case "id":
			s.last.ID = value
		case "event":
			s.last.Kind = value
		case "data":
			return Event{s.last.ID, s.last.Kind, []byte(value)}, nil
		}
	}
	switch err := s.lines.Err(); {
	case err == nil:
		return Event{}, io.EOF
	case errors.Is(err, bufio.ErrTooLong):
		return Event{}, err
	default:
		return Event{}, s.broke(err)
	}
}

// Close ends the stream.
func (s *Stream) Close() error {
	s.end()
	return s.body.Close()
}
