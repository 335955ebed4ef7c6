package client

import (
	"bufio"
	"context"
	"errors"
	"io"
	"strings"
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

// Stream is a stream of events. It is of one goroutine.
type Stream struct {
	body  io.Closer
	lines *bufio.Scanner
	last  Event // its id stays until another one comes
	broke func(error) error
}

// stream opens a stream.
func stream(ctx context.Context, c *Client, r request) (*Stream, error) {
	resp, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	s := &Stream{body: resp.Body, lines: bufio.NewScanner(resp.Body),
		broke: func(err error) error { return c.noAnswer(ctx, err) }}
	s.lines.Buffer(nil, eventLine)
	return s, nil
}

// Next waits for the next event; io.EOF is the stream's end, and *Unreachable one that broke: a
// reader that follows resumes it after the last id.
func (s *Stream) Next() (Event, error) {
	for s.lines.Scan() {
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
func (s *Stream) Close() error { return s.body.Close() }
