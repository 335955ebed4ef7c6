package serve

import (
	"net"
	"sync"
)

// limited accepts so many connections at once: a user who opens many must not take the files that
// publishing needs.
type limited struct {
	net.Listener
	free chan struct{}
	end  chan struct{}
	once sync.Once
}

func limit(l net.Listener, n int) *limited {
	return &limited{Listener: l, free: make(chan struct{}, n), end: make(chan struct{})}
}

// Accept waits for room, and then for a connection.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.end:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &counted{Conn: c, l: l}, nil
}

// Close ends an Accept that waits.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.end) })
	return l.Listener.Close()
}

// counted gives its room back once.
type counted struct {
	net.Conn
	l    *limited
	once sync.Once
}

// Close implements net.Conn.
func (c *counted) Close() error {
	c.once.Do(func() { <-c.l.free })
	return c.Conn.Close()
}
