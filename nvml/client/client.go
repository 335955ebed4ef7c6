// Package client follows and queries pool-gpu, the helper process that runs NVML, over its unix
// socket. It implements nvml.Source.
//
// It owns the connection: its time limits, its retries, and what is reported while facts cannot be
// refreshed. Whatever happens to the helper (it dies, hangs, sends garbage, has another version),
// Follow continues and reports it. It must not know pools, decide on health, or link NVML, and
// stays small: pool-gate runs it before each start of an engine.
package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// The bounds of a followed connection.
const (
	// grace is how much later than wire.Heartbeat, or the interval, a line may come: sampling 16
	// GPUs and a busy machine take time.
	grace = 5 * time.Second
	// stable is how long a connection must have lasted for the next attempt to come at once and to
	// reset the backoff: a helper that dies after each first snapshot must not be retried in a
	// loop.
	stable = 10 * time.Second
	// The wait between attempts doubles from first to last, each with random jitter.
	firstWait = time.Second
	lastWait  = 60 * time.Second
)

// Options of a Client. The zero value is usable.
type Options struct {
	Socket   string        // empty: wire.Socket
	Interval time.Duration // between samples; 0: the helper's own
	Log      *slog.Logger  // nil: no log
}

// Client follows one helper. Its methods may be called at the same time.
type Client struct {
	socket   string
	interval time.Duration
	log      *slog.Logger
	dial     func(ctx context.Context) (net.Conn, error) // replaced by tests
}

var _ nvml.Source = (*Client)(nil)

// New returns a client; it connects when it is used.
func New(o Options) *Client {
	c := &Client{socket: o.Socket, interval: o.Interval, log: o.Log}
	if c.socket == "" {
		c.socket = wire.Socket
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, c.socket) }
	return c
}

// Ask sends one request to this client's helper, on its own connection: see the function Ask.
func (c *Client) Ask(ctx context.Context, req wire.Request) (wire.Reply, error) {
	return Ask(ctx, c.socket, req)
}

// Fresh implements nvml.Source.
func (c *Client) Fresh(ctx context.Context) (*nvml.Snapshot, error) {
	reply, err := c.Ask(ctx, wire.Request{Op: wire.OpSnapshot})
	if err != nil {
		return nil, err
	}
	return reply.Snapshot, nil
}

// silence is the longest time without a line on a live connection. PID 1 accepts connections for a
// helper that is dead or hangs, so nothing else shows it.
func (c *Client) silence() time.Duration { return max(c.interval, wire.Heartbeat) + grace }

// Follow implements nvml.Source. It returns ctx's error, and leaves no goroutine behind.
func (c *Client) Follow(ctx context.Context, deliver func(nvml.Update)) error {
	f := follower{c: c, deliver: deliver, fresh: time.Now()}
	f.report(nvml.Problem{Kind: nvml.ProblemHelper, Text: "pool-gpu has not answered yet"})
	wait := time.Duration(0)
	for ctx.Err() == nil {
		if !sleep(ctx, wait) {
			break
		}
		begun := time.Now()
		err := f.connection(ctx)
		if ctx.Err() != nil {
			break
		}
		f.lost(err)
		wait = nextWait(wait, f.heardAt.Sub(begun))
	}
	return ctx.Err()
}

// nextWait returns the wait before the next attempt, after the former wait and a connection that
// lasted so long.
func nextWait(former, lived time.Duration) time.Duration {
	switch {
	case lived >= stable:
		return 0
	case former == 0:
		return jittered(firstWait)
	}
	return jittered(min(2*former, lastWait))
}

// jittered adds up to a tenth to d, so that several followers do not connect at once.
func jittered(d time.Duration) time.Duration { return d + rand.N(d/10+1) }

func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// follower is the state of one Follow, owned by its goroutine.
type follower struct {
	c       *Client
	deliver func(nvml.Update)
	fresh   time.Time     // time of the last facts; the start before the first
	heardAt time.Time     // time of the last line
	problem *nvml.Problem // why facts are missing, as last reported; nil: they are fresh
}

// connection dials, follows and returns why it ended.
func (f *follower) connection(ctx context.Context) error {
	dialed, cancel := context.WithTimeout(ctx, grace)
	conn, err := f.c.dial(dialed)
	cancel()
	if err != nil {
		return err
	}
	defer release(ctx, conn)()
	if err := f.extend(ctx, conn); err != nil {
		return err
	}
	if err := send(conn, wire.Request{Op: wire.OpFollow, IntervalMS: f.c.interval.Milliseconds()}); err != nil {
		return err
	}
	for in := newLines(conn); ; {
		reply, err := in.next()
		if err != nil {
			return err
		}
		if err := f.take(reply); err != nil {
			return err
		}
		f.heardAt = time.Now()
		// Only a whole line extends the deadline.
		if err := f.extend(ctx, conn); err != nil {
			return err
		}
	}
}

// extend sets the deadline to one silence from now.
func (f *follower) extend(ctx context.Context, conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(f.c.silence())); err != nil {
		return err
	}
	return ctx.Err() // checked after the call, which may have undone release's deadline
}

// take delivers one line. An error comes from the helper, which will not serve this connection.
func (f *follower) take(r wire.Reply) error {
	switch {
	case r.Error != "":
		return &AnswerError{Text: r.Error}
	case r.Snapshot != nil:
		if f.problem != nil {
			f.c.log.Info("GPU facts are fresh", "driver", r.Snapshot.Driver.Version, "gpus", len(r.Snapshot.Devices))
		}
		f.fresh, f.problem = time.Now(), nil
		f.deliver(nvml.Update{Snapshot: r.Snapshot})
	case r.Event != nil:
		f.deliver(nvml.Update{Event: r.Event})
	case r.Stalled != nil:
		f.stale(nvml.Problem{Kind: nvml.ProblemHung, Call: r.Stalled.Call,
			Text: fmt.Sprintf("the NVML call %s has not returned since %s", r.Stalled.Call,
				r.Stalled.Since.UTC().Format(time.RFC3339))})
	}
	return nil // a line without a known field is from a newer helper and may be ignored
}

// stale logs and reports once that facts are missing, and why.
func (f *follower) stale(p nvml.Problem) {
	if f.problem != nil && *f.problem == p {
		return
	}
	f.c.log.Warn("GPU facts are not refreshed", "reason", p.Text, "since", f.fresh)
	f.report(p)
}

// report delivers that facts are missing, and why.
func (f *follower) report(p nvml.Problem) {
	f.problem = &p
	f.deliver(nvml.Update{Stale: &nvml.Stale{Since: f.fresh, Problem: p}})
}

// lost reports why the connection ended. If the helper last reported a hanging call, that remains
// the reason.
func (f *follower) lost(err error) {
	if f.problem != nil && f.problem.Kind == nvml.ProblemHung &&
		(errors.Is(err, os.ErrDeadlineExceeded) || closed(err)) {
		return
	}
	f.stale(nvml.Problem{Kind: nvml.ProblemHelper, Text: f.c.why(err)})
}

// closed reports whether the helper closed the connection, usually because it died.
func closed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.ErrClosedPipe) // a net.Pipe, where even a deadline can no longer be set
}

// why describes the end of a connection for operators.
func (c *Client) why(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Sprintf("no message from pool-gpu for %s", c.silence())
	case errors.Is(err, fs.ErrNotExist):
		return "pool-gpu's socket " + c.socket + " does not exist; is pool-gpu.socket started?"
	case errors.Is(err, fs.ErrPermission):
		return "pool-gpu's socket " + c.socket + " cannot be opened: permission denied"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "nothing listens on pool-gpu's socket " + c.socket + "; has pool-gpu.socket failed?"
	case closed(err):
		return "pool-gpu closed the connection"
	}
	var answer *AnswerError
	if errors.As(err, &answer) {
		return answer.Error()
	}
	var version *VersionError
	if errors.As(err, &version) {
		return version.Error()
	}
	return "invalid answer from pool-gpu: " + err.Error()
}
