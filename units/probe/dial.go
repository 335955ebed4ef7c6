package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errNotHere: a URL is not on this host.
var errNotHere = errors.New("engines are probed on the loopback only")

// loopbackOnly rejects every address that is not on the loopback, before a packet is sent.
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

// idleMax is how long an idle connection may be reused.
const idleMax = 90 * time.Second

// dialed opens connections and tracks the open ones by the requested address. The zero value is
// usable.
type dialed struct {
	mu   sync.Mutex
	open map[string][]*connection
}

// connection removes itself from its dialed when it is closed. It has no goroutine and no buffer,
// so that an idle one costs a descriptor and a few hundred bytes.
type connection struct {
	net.Conn
	in      *dialed
	address string

	raw  syscall.RawConn // of a schedule's lines
	line uint64          // its number there; 0: it is not watched

	// Guarded by in.mu.
	idle  bool // kept for reuse, not used by an exchange
	since time.Time
}

func (d *dialed) dial(ctx context.Context, network, address string) (net.Conn, error) {
	return d.fresh(ctx, network, address)
}

func (d *dialed) fresh(ctx context.Context, network, address string) (*connection, error) {
	dialer := net.Dialer{KeepAlive: -1, Control: loopbackOnly}
	c, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	conn := &connection{Conn: c, in: d, address: address}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open == nil {
		d.open = make(map[string][]*connection)
	}
	d.open[address] = append(d.open[address], conn)
	return conn, nil
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.in.mu.Lock()
	if i := slices.Index(c.in.open[c.address], c); i >= 0 {
		if rest := slices.Delete(c.in.open[c.address], i, i+1); len(rest) > 0 {
			c.in.open[c.address] = rest
		} else {
			delete(c.in.open, c.address)
		}
	}
	c.in.mu.Unlock()
	return c.Conn.Close()
}

// take returns an idle connection that is still usable, or nil.
func (d *dialed) take(address string) *connection {
	c := d.unidle(address)
	if c == nil || time.Since(c.since) < idleMax && c.quiet() {
		return c
	}
	_ = c.Close() // the engine has closed its side or sent unexpected data
	return nil
}

func (d *dialed) unidle(address string) *connection {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range d.open[address] {
		if c.idle {
			c.idle = false
			return c
		}
	}
	return nil
}

// quiet reports whether the connection is open and has no unread data.
func (c *connection) quiet() bool {
	tcp, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := unix.Recvfrom(int(fd), one[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		quiet = errors.Is(err, unix.EAGAIN)
		return true
	})
	return err == nil && quiet
}

// keep keeps a connection for reuse, or closes it if there already is an idle one to the engine.
func (d *dialed) keep(c *connection) {
	if c.SetDeadline(time.Time{}) != nil || !d.kept(c) {
		_ = c.Close()
	}
}

func (d *dialed) kept(c *connection) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	all := d.open[c.address]
	if !slices.Contains(all, c) || slices.ContainsFunc(all, func(c *connection) bool { return c.idle }) {
		return false
	}
	c.idle, c.since = true, time.Now()
	return true
}

// close closes every connection to an address, those in use as well.
func (d *dialed) close(address string) {
	d.mu.Lock()
	all := slices.Clone(d.open[address])
	d.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}

// closeIdle closes the idle connections of all addresses.
func (d *dialed) closeIdle() {
	var all []*connection
	d.mu.Lock()
	for _, conns := range d.open {
		for _, c := range conns {
			if c.idle {
				all = append(all, c)
			}
		}
	}
	d.mu.Unlock()
	for _, c := range all {
		_ = c.Close()
	}
}
