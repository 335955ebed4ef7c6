package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// errNotHere says that a URL leads away from this host.
var errNotHere = errors.New("engines are asked on the loopback only")

// loopbackOnly refuses every address that is not this host's, before a packet is sent.
func loopbackOnly(_, address string, _ syscall.RawConn) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("%s is not on the loopback: %w", address, errNotHere)
	}
	return nil
}

// dialed opens connections and knows those that are open, by the address that was asked for: http.Transport closes idle
// connections of all hosts or of none. The zero value is usable.
type dialed struct {
	mu   sync.Mutex
	open map[string]map[*connection]struct{}
}

// connection forgets itself when it is closed.
type connection struct {
	net.Conn
	in      *dialed
	address string
}

func (d *dialed) dial(ctx context.Context, network, address string) (net.Conn, error) {
	dialer := net.Dialer{KeepAlive: -1, Control: loopbackOnly}
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &connection{c, d, address}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = make(map[string]map[*connection]struct{})
	}
	if d.open[address] == nil {
		d.open[address] = make(map[*connection]struct{})
	}
	d.open[address][conn] = struct{}{}
	return conn, nil
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.in.mu.Lock()
	if same := c.in.open[c.address]; same != nil {
		if delete(same, c); len(same) == 0 {
			delete(c.in.open, c.address)
		}
	}
	c.in.mu.Unlock()
	return c.Conn.Close()
}

// count returns how many connections are open.
func (d *dialed) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, conns := range d.open {
		n += len(conns)
	}
	return n
}

// close closes every connection to an address.
func (d *dialed) close(address string) {
	d.mu.Lock()
	var all []*connection
	for c := range d.open[address] {
		all = append(all, c)
	}
	d.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}
