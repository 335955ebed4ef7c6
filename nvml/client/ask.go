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

// AskLimit bounds a question whose context has no deadline.
const AskLimit = 10 * time.Second

// ErrNoAnswer is wrapped by every error that says nothing of the question: no one listens, the
// helper is silent or hangs in a call, or its answer cannot be read. A caller that asks for leave
// to start may go on.
var ErrNoAnswer = errors.New("pool-gpu gave no answer")

// AnswerError is the helper's own error: the question was wrong, for example a device that does not
// exist.
type AnswerError struct{ Text string }

func (e *AnswerError) Error() string { return "pool-gpu: " + e.Text }

// Ask puts one question to the helper at socket and returns its answer. The deadline of ctx holds
// for connecting, asking and the answer together, AskLimit where it has none: PID 1 accepts the
// connection before the helper runs, so a connection proves nothing. Errors are *AnswerError, or
// wrap ErrNoAnswer.
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

// check separates an answer from what only looks like one: without it, a helper that hangs would
// read as a refusal.
func check(req wire.Request, r wire.Reply) error {
	switch {
	case r.Error != "":
		return &AnswerError{Text: r.Error}
	case r.Stalled != nil:
		return fmt.Errorf("%w: the NVML call %s has not returned since %s", ErrNoAnswer, r.Stalled.Call,
			r.Stalled.Since.Format(time.RFC3339))
	case req.Op == wire.OpSnapshot && r.Snapshot == nil:
		return fmt.Errorf("%w: no snapshot came back", ErrNoAnswer)
	case req.Op == wire.OpReserve && !r.Granted && len(r.Short) == 0:
		return fmt.Errorf("%w: the promise was neither given nor refused", ErrNoAnswer)
	}
	return nil
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", socket)
}

// release ends conn's reads and writes as soon as ctx ends. The function that it returns waits for
// that watch and closes conn.
func release(ctx context.Context, conn net.Conn) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = conn.SetDeadline(time.Unix(1, 0)) // the past: what waits returns
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

// plain replaces the timeout that release provokes by the reason for it.
func plain(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
