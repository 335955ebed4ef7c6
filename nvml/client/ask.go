package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// AskLimit bounds a request whose context has no deadline.
const AskLimit = 10 * time.Second

// ErrNoAnswer is wrapped by every error that leaves the request unanswered: no listener, a helper
// that is silent or hangs in a call, or an unreadable answer. A caller that wants to start an
// engine may start it.
var ErrNoAnswer = errors.New("pool-gpu did not answer")

// AnswerError is the helper's own error: the request was invalid, for example a device that does
// not exist.
type AnswerError struct{ Text string }

func (e *AnswerError) Error() string { return "pool-gpu: " + e.Text }

// Ask sends one request to the helper at socket and returns its answer. The deadline of ctx, or
// AskLimit, bounds connection, request and answer together: PID 1 accepts the connection before the
// helper runs, so a connection proves nothing. Errors are *AnswerError, or wrap ErrNoAnswer.
func Ask(ctx context.Context, socket string, req wire.Request) (wire.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, AskLimit)
	defer cancel()
	conn, err := dial(ctx, socket)
	if err != nil {
		return wire.Reply{}, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	defer release(ctx, conn)()
	if err := send(conn, req); err != nil {
		return wire.Reply{}, fmt.Errorf("%w: %w", ErrNoAnswer, plain(ctx, err))
	}
	reply, err := newLines(conn).next()
	if err != nil {
		return wire.Reply{}, fmt.Errorf("%w: %w", ErrNoAnswer, plain(ctx, err))
	}
	return reply, check(req, reply)
}

// check returns an error for a reply that does not answer the request: without it, a helper that
// hangs would look like a refusal.
func check(req wire.Request, r wire.Reply) error {
	switch {
	case r.Error != "":
		return &AnswerError{Text: r.Error}
	case r.Stalled != nil:
		return fmt.Errorf("%w: the NVML call %s has not returned since %s", ErrNoAnswer, r.Stalled.Call,
			r.Stalled.Since.Format(time.RFC3339))
	case req.Op == wire.OpSnapshot && r.Snapshot == nil:
		return fmt.Errorf("%w: no snapshot in the answer", ErrNoAnswer)
	case req.Op == wire.OpReserve && !r.Granted && len(r.Short) == 0:
		return fmt.Errorf("%w: the reservation was neither granted nor refused", ErrNoAnswer)
	case req.Op == wire.OpHeld && len(r.Held) != len(req.Devices):
		return fmt.Errorf("%w: %d devices in the answer for %d", ErrNoAnswer, len(r.Held), len(req.Devices))
	}
	return nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", socket)
}

// release interrupts conn's reads and writes when ctx ends. The returned function ends that watch
// and closes conn.
func release(ctx context.Context, conn net.Conn) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = conn.SetDeadline(time.Unix(1, 0)) // in the past: pending calls return
	})
	return func() {
		if !stop() {
			<-done
		}
		_ = conn.Close()
	}
}

func send(conn net.Conn, req wire.Request) error {
	req.Version = wire.Version
	line, err := json.Marshal(req)
	if err != nil {
		return err
	}
	if len(line) >= wire.MaxLine {
		return errLong
	}
	_, err = conn.Write(append(line, '\n'))
	return err
}

// plain replaces the timeout that release causes by the reason for it.
func plain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
