package client

import (
	"context"
	"errors"
	"net"
	"syscall"
	"time"
)

// dialFirst connects to the first of several sockets of one manager that exists and that this user
// may use: the queue of the socket of administrators has no other users in it. The error is that
// of the last.
func dialFirst(ctx context.Context, sockets []string) (c net.Conn, err error) {
	for _, socket := range sockets {
		if c, err = dial(ctx, socket); err == nil || ctx.Err() != nil {
			return c, err
		}
	}
	return nil, err
}

// dialPause is the pause before a full socket is tried again.
const dialPause = 5 * time.Millisecond

// dial connects to a manager's socket. While more callers wait there than it has room for, the
// kernel refuses a connection at once (EAGAIN): it is tried again until ctx ends.
func dial(ctx context.Context, socket string) (net.Conn, error) {
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, "unix", socket)
		if !errors.Is(err, syscall.EAGAIN) {
			return c, err
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(dialPause):
		}
	}
}
