package machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
)

// DialContext connects to an address inside of the machine: "unix" with a path, "tcp" with an IP
// address and a port. It has the type of the dialer in http.Transport.
func (m *Machine) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := m.backend.dial(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("dial %s %s in the machine: %w", network, address, err)
	}
	return conn, nil
}

// HTTPClient returns a client whose requests all go to one address inside of the machine,
// regardless of host their URL names. Its idle connections are closed by CloseIdleConnections.
func (m *Machine) HTTPClient(network, address string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return m.DialContext(ctx, network, address)
		},
	}}
}

// Forward is a listener on the host whose connections all end at one address inside of a machine.
type Forward struct {
	Addr net.Addr // where it listens on the host

	listener net.Listener
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// Forward listens on the host, at an address such as "127.0.0.1:0", and passes each connection on
// to network and address inside of the machine. A connection that the machine refuses is closed at
// once. The caller must Close it.
func (m *Machine) Forward(listen, network, address string) (*Forward, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	f := &Forward{Addr: l.Addr(), listener: l, cancel: cancel}
	f.running.Go(func() {
		for {
			outer, err := l.Accept()
			if err != nil {
				return
			}
			f.running.Go(func() {
				defer outer.Close()
				inner, err := m.DialContext(ctx, network, address)
				if err == nil {
					join(ctx, outer, inner)
				}
			})
		}
	})
	return f, nil
}

// Close stops listening, cuts the connections and waits for their goroutines.
func (f *Forward) Close() error {
	err := f.listener.Close()
	f.cancel()
	f.running.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// join copies both ways until both sides have ended or ctx has, and closes both.
func join(ctx context.Context, a, b net.Conn) {
	stop := context.AfterFunc(ctx, func() { a.Close(); b.Close() })
	defer stop()
	var copies sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		copies.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			if half, ok := way[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			} else {
				way[0].Close()
			}
		})
	}
	copies.Wait()
	a.Close()
	b.Close()
}
