package etcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// attempts remembers why the last connection failed: gRPC tries again until a request's time is
// over, and then reports the time alone.
type attempts struct {
	patience time.Duration // of a first request

	mu      sync.Mutex
	last    error
	reached bool // a member sent something
}

func (a *attempts) set(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.last = err
	a.reached = a.reached || err == nil
}

// explain is the error of a request that had some time, with the reason for it where a connection
// failed.
func (a *attempts) explain(err error, had time.Duration) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.last != nil:
		return fmt.Errorf("no member answered: %w", a.last)
	case a.reached:
		return fmt.Errorf("%w within %s", errSlow, had)
	}
	return fmt.Errorf("no member answered within %s: %w", had, err)
}

// options have the attempts noted.
func (a *attempts) options(o Options) []grpc.DialOption {
	creds := insecure.NewCredentials()
	if o.TLS != nil {
		creds = credentials.NewTLS(o.TLS)
	}
	return []grpc.DialOption{grpc.WithContextDialer(a.dial), grpc.WithTransportCredentials(noting{creds, a})}
}

func (a *attempts) dial(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		a.set(err)
	}
	return c, err
}

// noting are credentials whose failures are noted.
type noting struct {
	credentials.TransportCredentials
	to *attempts
}

// ClientHandshake implements credentials.TransportCredentials.
func (n noting) ClientHandshake(ctx context.Context, authority string, c net.Conn) (net.Conn, credentials.AuthInfo,
	error) {
	secured, info, err := n.TransportCredentials.ClientHandshake(ctx, authority, c)
	if err != nil {
		n.to.set(fmt.Errorf("%s: %w", c.RemoteAddr(), err))
		return nil, nil, err
	}
	return &first{Conn: secured, to: n.to}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (n noting) Clone() credentials.TransportCredentials {
	return noting{n.TransportCredentials.Clone(), n.to}
}

// first is a connection of which is noted whether anything was answered: that a server refuses a
// client's certificate comes after the handshake.
type first struct {
	net.Conn
	to       *attempts
	answered bool // one goroutine reads
}

func (f *first) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	switch {
	case f.answered:
	case n > 0:
		f.answered = true
		f.to.set(nil)
	case errors.Is(err, io.EOF):
		f.to.set(fmt.Errorf("%s closed the connection", f.RemoteAddr()))
	case err != nil && !errors.Is(err, net.ErrClosed):
		f.to.set(fmt.Errorf("%s: %w", f.RemoteAddr(), err))
	}
	return n, err
}
