package main

import (
	"io"
	"net"
	"time"

	"github.com/pool-managerd/pool-managerd/test/machine/wire"
)

// dialTimeout bounds the connect, which inside of one machine is quick or never.
const dialTimeout = 30 * time.Second

// connection is a stream whose input goes to a socket, and whose output comes from it.
type connection struct {
	*feed
	conn net.Conn
}

func (c *connection) kill() { c.conn.Close() }

// halfClose ends the sending side of a socket where there is such a thing, so that the answer can
// still be read.
type halfClose struct{ net.Conn }

func (h halfClose) Close() error {
	if c, ok := h.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return h.Conn.Close()
}

// openConnection connects on a goroutine that then copies what comes until the other side ends. An
// empty frame of output reports to the harness that the connection is up.
func (a *agent) openConnection(id uint32, r wire.Request) {
	go func() {
		conn, err := net.DialTimeout(r.Network, r.Address, dialTimeout)
		if err != nil {
			a.ended(id, wire.Exit{Code: -1, Error: err.Error()})
			return
		}
		defer conn.Close()
		c := &connection{feed: newFeed(a.out, id, halfClose{conn}), conn: conn}
		a.add(id, c)
		if a.out.Write(wire.Output, id, nil) != nil {
			return
		}
		_, err = io.Copy(output{a.out, wire.Output, id}, conn)
		c.inputEnd()
		exit := wire.Exit{}
		if err != nil {
			exit = wire.Exit{Code: -1, Error: err.Error()}
		}
		a.ended(id, exit)
	}()
}
