package machine

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/pool-managerd/pool-managerd/test/machine/wire"
)

// agentPort is the name of the virtio-serial port that the agent opens.
const agentPort = wire.Port

// agentLink is the host's end of the channel to a VM's agent. One goroutine reads; each stream has
// one that hands its output on, so that a slow reader of one stream does not block the others.
type agentLink struct {
	conn net.Conn
	out  *wire.Writer
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	hello   chan struct{} // closed by the agent's first frame
	greeted bool
	streams map[uint32]*agentStream
	last    uint32 // number of the newest stream
	broken  error  // why the channel ended
}

// connectAgent connects to qemu's socket as soon as it is there, and waits for the agent to say
// hello.
func connectAgent(ctx context.Context, socket string, exited <-chan struct{}) (*agentLink, error) {
	var conn net.Conn
	for conn == nil {
		var d net.Dialer
		var err error
		if conn, err = d.DialContext(ctx, "unix", socket); err == nil {
			break
		}
		select {
		case <-exited:
			return nil, errors.New("qemu ended at once")
		default:
		}
		if err := pause(ctx, "qemu to listen"); err != nil {
			return nil, err
		}
	}
	l := &agentLink{
		conn: conn, out: wire.NewWriter(conn), done: make(chan struct{}),
		hello: make(chan struct{}), streams: map[uint32]*agentStream{},
	}
	go l.read()
	select {
	case <-l.hello:
		return l, nil
	case <-l.done:
	case <-exited:
	case <-ctx.Done():
		l.close()
		return nil, fmt.Errorf("it was not up in time: %w", ctx.Err())
	}
	l.close()
	return nil, errors.New("it ended before it was up")
}

// read takes frames until the channel ends, and then ends all streams.
func (l *agentLink) read() {
	defer close(l.done)
	in := bufio.NewReaderSize(l.conn, 2*wire.MaxPayload)
	for {
		f, err := wire.Read(in)
		if err != nil {
			l.fail(err)
			return
		}
		l.take(f)
	}
}

// take hands a frame to its stream.
func (l *agentLink) take(f wire.Frame) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.Type == wire.Hello {
		if !l.greeted {
			l.greeted = true
			close(l.hello)
		}
		return
	}
	s := l.streams[f.Stream]
	if s == nil {
		return
	}
	switch f.Type {
	case wire.Output, wire.Error:
		s.push(f)
	case wire.Accepted:
		s.credit.Give(f.Payload)
	case wire.Ended:
		delete(l.streams, f.Stream)
		var exit wire.Exit
		if err := json.Unmarshal(f.Payload, &exit); err != nil {
			exit = wire.Exit{Code: -1, Error: err.Error()}
		}
		s.end(exit)
	}
}

// fail ends every stream with the error.
func (l *agentLink) fail(err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = errors.New("the machine has ended")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.broken = err
	for id, s := range l.streams {
		delete(l.streams, id)
		s.end(wire.Exit{Code: -1, Error: err.Error()})
	}
}

// open asks the agent for a new stream whose output goes to stdout and stderr.
func (l *agentLink) open(r wire.Request, stdout, stderr io.Writer) (*agentStream, error) {
	l.mu.Lock()
	if l.broken != nil {
		l.mu.Unlock()
		return nil, l.broken
	}
	l.last++
	s := newAgentStream(l, l.last, stdout, stderr)
	l.streams[s.id] = s
	l.mu.Unlock()
	if err := l.out.WriteJSON(wire.Open, s.id, r); err != nil {
		l.mu.Lock()
		delete(l.streams, s.id)
		l.mu.Unlock()
		s.end(wire.Exit{Code: -1, Error: err.Error()})
		<-s.drained
		return nil, err
	}
	return s, nil
}

// start runs a program. The goroutine that reads its standard input ends when that does, or with
// the program's end at the next read.
func (l *agentLink) start(ctx context.Context, c Command) (process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	dir := c.Dir
	if dir == "" {
		dir = "/"
	}
	s, err := l.open(wire.Request{Args: c.Args, Env: c.environment(), Dir: dir}, c.Stdout, c.Stderr)
	if err != nil {
		return nil, err
	}
	s.stopKill = context.AfterFunc(ctx, func() { _ = s.kill() })
	go s.feed(c.Stdin)
	return s, nil
}

// dial connects inside of the machine. The connection has no half-close.
func (l *agentLink) dial(ctx context.Context, network, address string) (net.Conn, error) {
	near, far := net.Pipe()
	connected := make(chan struct{})
	s, err := l.open(wire.Request{Network: network, Address: address}, &firstWrite{Writer: far, first: connected}, nil)
	if err != nil {
		return nil, err
	}
	select {
	case <-connected:
	case <-s.drained:
		_, err := s.wait()
		return nil, err
	case <-ctx.Done():
		_ = s.kill()
		return nil, ctx.Err()
	}
	go s.feed(far)
	go func() {
		<-s.drained
		far.Close()
	}()
	return near, nil
}

// firstWrite closes a channel at its first write, which is the empty one that confirms a
// connection.
type firstWrite struct {
	io.Writer
	first chan struct{}
	seen  bool
}

func (w *firstWrite) Write(p []byte) (int, error) {
	if !w.seen {
		w.seen = true
		close(w.first)
	}
	if len(p) == 0 {
		return 0, nil
	}
	return w.Writer.Write(p)
}

// close cuts the channel and waits for the reader.
func (l *agentLink) close() {
	l.conn.Close()
	<-l.done
}
