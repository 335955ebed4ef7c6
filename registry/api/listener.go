package api

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

func closeAll(open []*limited) {
	for _, l := range open {
		_ = l.Close() // closed already at worst
	}
}

// limited is a listener whose connections are in the server's table.
type limited struct {
	net.Listener
	server *Server
	once   sync.Once
}

// Accept waits for a connection that there is room for.
func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if p := l.server.place(c); p != nil {
			return p, nil
		}
	}
}

// Close ends accepting; open connections stay open.
func (l *limited) Close() error {
	err := net.ErrClosed
	l.once.Do(func() { err = l.Listener.Close() })
	return err
}

// place finds out who opened a connection and adds it to the table; nil: it was refused.
func (s *Server) place(c net.Conn) *placed {
	p := &placed{Conn: c, known: &connection{hung: make(chan struct{})}}
	if uc, ok := c.(*net.UnixConn); ok {
		p.known.local, p.known.peer = true, peerOf(uc)
		p.known.account = s.auth.Load().localAccount(&p.known.peer)
	} else {
		p.known.tcp, p.known.account = s.identifyTCP(c)
	}
	now := time.Now()
	p.known.last.Store(now.UnixNano())
	p.read.set, p.write.set = c.SetReadDeadline, c.SetWriteDeadline
	e := &entry{account: p.known.account, idle: p.known.idle, close: func() { p.known.hangUp(c) }}
	p.known.uncount = func() { s.conns.leave(e) }
	evicted, ok := s.conns.admit(e, now.UnixNano())
	if evicted != nil {
		evicted.close()
		s.crowded(subjectConnections, closedForOthers, evicted.account)
	}
	if !ok || evicted != nil && evicted.account == e.account {
		s.pace.crowds(e.account, now)
	}
	if !ok {
		s.crowded(subjectConnections, refusedNew, e.account)
		s.refused.add(refuseConn(c))
		return nil
	}
	return p
}

// hangUp ends a connection that another goroutine serves, without waiting for that: Close would
// wait until each read and write has returned, and all callers that are to be accepted with it.
func hangUp(c net.Conn) {
	if half, ok := c.(interface {
		CloseRead() error
		CloseWrite() error
	}); ok {
		_ = half.CloseRead()
		_ = half.CloseWrite()
		return
	}
	_ = c.SetDeadline(time.Unix(1, 0))
}

// refuseConn answers a connection that there is no room for, as far as that needs no waiting.
func refuseConn(c net.Conn) net.Conn {
	const body = `{"code":"TOO_MANY_CONNECTIONS","message":"this caller has too many connections open",` +
		`"error":"this caller has too many connections open","retriable":true,` +
		`"hint":"Close some, or use one for several requests.","retry_after_ms":1000}` + "\n"
	_ = c.SetWriteDeadline(time.Now().Add(connLinger))
	_, _ = io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"+
		"Connection: close\r\nRetry-After: 1\r\n"+fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body))+body)
	return c
}

// connection has facts about a connection, read once for all its requests.
type connection struct {
	local   bool    // over the unix socket
	peer    peer    // of the unix socket
	tcp     tcpPeer // of TCP
	account account
	uncount func()        // take it out of the table
	hung    chan struct{} // closed with hangUp; nil: there is none

	last atomic.Int64 // when its last request began, or it was accepted, in ns since 1970
	busy atomic.Bool  // a request is being handled
}

// idle implements entry: it waits for its caller, between requests, within a request's header, or
// within a request that takes too long.
func (c *connection) idle() (since int64, is bool) {
	last := c.last.Load()
	return last, !c.busy.Load() || time.Now().UnixNano()-last > slowRequest.Nanoseconds()
}

// hangUp ends the connection, and the wait of its request for a turn: net/http notices the end only
// where it has read the request's body. It is called once.
func (c *connection) hangUp(conn net.Conn) {
	close(c.hung)
	hangUp(conn)
}

// placed is a connection in the table, until it is closed or becomes an event stream.
type placed struct {
	net.Conn
	known       *connection
	read, write deadline
}

// Close closes the connection and takes it out of the table.
func (c *placed) Close() error {
	defer c.known.uncount()
	c.read.stop()
	c.write.stop()
	return c.Conn.Close()
}

func (c *placed) SetReadDeadline(t time.Time) error  { return c.read.Set(t) }
func (c *placed) SetWriteDeadline(t time.Time) error { return c.write.Set(t) }

func (c *placed) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
