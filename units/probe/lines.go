package probe

import (
	"bytes"
	"context"
	"errors"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/units/probe/http1"
)

// lines are the idle connections of a Prober, over which a schedule's goroutine sends probes and
// reads their answers without ever waiting for one of them. A line's number is that of its
// connection.
type lines struct {
	*poller
	p     *Prober
	used  map[uint64]*connection // by probes under way
	last  uint64
	parse *scratch
	got   [http1.ReadSize]byte
}

func newLines(p *Prober) (*lines, error) {
	poller, err := newPoller()
	if err != nil {
		return nil, err
	}
	return &lines{poller: poller, p: p, used: make(map[uint64]*connection), parse: newScratch()}, nil
}

// send sends a probe on the engine's idle connection, and returns its line; 0: there is none, or
// the check asks for something else.
func (l *lines) send(c Check) (line uint64) {
	q := c.question()
	if !c.plain() || q.clean() != nil {
		return 0
	}
	conn := l.p.dialed.take(c.Host)
	if conn == nil {
		return 0
	}
	if !l.watched(conn) {
		_ = conn.Close()
		return 0
	}
	q.key = l.p.keys.at(c.Host).use()
	l.parse.write(q)
	// An idle connection has room for it: everything that was sent before was answered.
	if _, err := conn.Write(l.parse.out); err != nil {
		_ = conn.Close()
		return 0
	}
	l.used[conn.line] = conn
	return conn.line
}

// watched has the poller watch a connection, and reports whether it does.
func (l *lines) watched(c *connection) bool {
	if c.line != 0 {
		return true
	}
	tcp, ok := c.Conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil || l.add(raw, l.last+1) != nil {
		return false
	}
	l.last++
	c.raw, c.line = raw, l.last
	return true
}

// receive reads what has arrived on a line. Where the answer is complete, err is the probe's
// result, as of Probe. Otherwise rest is not nil and waits for it, or neither: nothing has arrived.
func (l *lines) receive(line uint64, check Check) (complete bool, rest func(context.Context) error, err error) {
	conn := l.used[line]
	n, err := conn.receive(l.got[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return false, nil, nil
	case err == nil && n == 0, errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		// The engine closed the connection just as it was used: it is asked once more.
		l.drop(line)
		return false, func(ctx context.Context) error { return l.p.Probe(ctx, check) }, nil
	case err != nil:
		l.drop(line)
		return true, nil, failed(err, check.Timeout)
	}
	delete(l.used, line)
	got := l.got[:n]
	l.parse.in.Reset(&arrivals{got})
	a, again, err := l.parse.read(check.question())
	if errors.Is(err, errMore) || errors.Is(a.err, errMore) {
		got := bytes.Clone(got)
		return false, func(ctx context.Context) error { return l.p.rest(ctx, conn, check, got) }, nil
	}
	if !again || !l.p.dialed.kept(conn) {
		_ = conn.Close()
	}
	if err == nil && wantsKey(a.status) && l.p.keys.at(check.Host) != nil {
		return false, func(ctx context.Context) error { return l.p.Probe(ctx, check) }, nil // with the newest key
	}
	return true, nil, check.verdict(a, err)
}

// drop closes a line.
func (l *lines) drop(line uint64) {
	if conn := l.used[line]; conn != nil {
		delete(l.used, line)
		_ = conn.Close()
	}
}

// close closes the lines in use.
func (l *lines) close() {
	for line := range l.used {
		l.drop(line)
	}
	l.poller.close()
}

// receive reads what is there.
func (c *connection) receive(into []byte) (n int, err error) {
	closed := c.raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), into)
		return true
	})
	return max(n, 0), errors.Join(closed, err)
}

// errMore: the answer is longer than what has arrived.
var errMore = errors.New("more of the answer is to arrive")

// arrivals is a reader of what has arrived.
type arrivals struct{ left []byte }

func (a *arrivals) Read(into []byte) (int, error) {
	if len(a.left) == 0 {
		return 0, errMore
	}
	n := copy(into, a.left)
	a.left = a.left[n:]
	return n, nil
}

// rest reads an answer whose beginning has arrived.
func (p *Prober) rest(ctx context.Context, conn *connection, c Check, got []byte) error {
	s := scratches.Get().(*scratch)
	defer s.release()
	a, err := p.exchange(ctx, conn, c.question(), s, got)
	return c.verdict(a, err)
}
