package client

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// Failure is an error that the API answered with. Its code is what programs compare, its hint what
// an administrator should do.
type Failure struct {
	Status int // of HTTP
	Answer wire.Error
}

// Error returns the code and the message.
func (f *Failure) Error() string { return f.Answer.Error() }

// Unwrap returns the answer, a *wire.Error.
func (f *Failure) Unwrap() error { return &f.Answer }

// Unreachable is no answer: no connection, or none in time.
type Unreachable struct {
	Addr string // the socket, or host and port
	Err  error  // as the system or the context has it
	// Within is how long an answer was waited for; 0 where that was not its end, or where the
	// context of the caller ended it.
	Within time.Duration
}

// Error names the address.
func (u *Unreachable) Error() string { return fmt.Sprintf("%s: no answer: %v", u.Addr, u.Err) }

// Unwrap returns the cause.
func (u *Unreachable) Unwrap() error { return u.Err }

// Unexpected is an answer that pool-managerd does not give: one of another program, or of another
// version of it.
type Unexpected struct {
	Addr string // with the path, where the answer is one of pool-managerd
	What string // behind "the answer"
	Err  error  // nil: none
}

// Error names the address, and what is wrong.
func (u *Unexpected) Error() string {
	if u.Err == nil {
		return u.Addr + ": the answer " + u.What
	}
	return fmt.Sprintf("%s: the answer %s: %v", u.Addr, u.What, u.Err)
}

// Unwrap returns the cause.
func (u *Unexpected) Unwrap() error { return u.Err }

// noAnswer is the error of a request that got none, or none in time. One that its caller gave up
// is not the manager's fault.
func (c *Client) noAnswer(ctx context.Context, err error) error {
	var s *silence
	if errors.As(context.Cause(ctx), &s) {
		return &Unreachable{c.addr, s, s.within}
	}
	if errors.Is(context.Cause(ctx), context.Canceled) || errors.Is(err, context.Canceled) {
		return err
	}
	var ue *url.Error
	if errors.As(err, &ue) {
		err = ue.Err
	}
	return &Unreachable{Addr: c.addr, Err: err}
}

// silence is the end of a request that got no answer in its time.
type silence struct{ within time.Duration }

func (s *silence) Error() string { return fmt.Sprintf("none within %s", s.within) }

// Unwrap makes it the error of a context.
func (s *silence) Unwrap() error { return context.DeadlineExceeded }
