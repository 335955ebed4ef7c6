package machine

import (
	"errors"
	"io"
	"sync"

	"github.com/pool-managerd/pool-managerd/test/machine/wire"
)

// agentStream is a program or a connection in a VM. What it sends is queued without bound, and
// handed on in order by a goroutine that ends with the stream.
type agentStream struct {
	link     *agentLink
	id       uint32
	credit   *wire.Credit
	stopKill func() bool   // ends the watch on the context; nil without one
	drained  chan struct{} // closed when all output is passed on and exit is known

	mu    sync.Mutex
	queue []wire.Frame
	exit  *wire.Exit // nil while it runs
	more  *sync.Cond
}

func newAgentStream(l *agentLink, id uint32, stdout, stderr io.Writer) *agentStream {
	s := &agentStream{link: l, id: id, credit: wire.NewCredit(), drained: make(chan struct{})}
	s.more = sync.NewCond(&s.mu)
	go s.drain(stdout, stderr)
	return s
}

// push queues a frame of output.
func (s *agentStream) push(f wire.Frame) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queue = append(s.queue, f)
	s.more.Signal()
}

// end records how the stream ended; only the first call counts.
func (s *agentStream) end(e wire.Exit) {
	s.credit.End()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.exit == nil {
		s.exit = &e
	}
	s.more.Signal()
}

// drain hands the output on. A writer that fails ends the program.
func (s *agentStream) drain(stdout, stderr io.Writer) {
	defer close(s.drained)
	for {
		f, ok := s.next()
		if !ok {
			return
		}
		to := stdout
		if f.Type == wire.Error {
			to = stderr
		}
		if to == nil {
			continue
		}
		if _, err := to.Write(f.Payload); err != nil {
			_ = s.kill()
			stdout, stderr = nil, nil
		}
	}
}

// next waits for output; false is the end.
func (s *agentStream) next() (wire.Frame, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.queue) == 0 && s.exit == nil {
		s.more.Wait()
	}
	if len(s.queue) == 0 {
		return wire.Frame{}, false
	}
	f := s.queue[0]
	s.queue = s.queue[1:]
	return f, true
}

// feed sends what it reads as input, until the stream or the reader has ended. nil is no input.
func (s *agentStream) feed(in io.Reader) {
	buf := make([]byte, wire.MaxPayload)
	for in != nil {
		n, err := in.Read(buf)
		if n > 0 && (!s.credit.Take(n) || s.link.out.Write(wire.Input, s.id, buf[:n]) != nil) {
			return
		}
		if err != nil {
			break
		}
	}
	_ = s.link.out.Write(wire.InputEnd, s.id, nil) // a broken channel ends the stream
}

func (s *agentStream) wait() (int, error) {
	<-s.drained
	if s.stopKill != nil {
		s.stopKill()
	}
	if s.exit.Error != "" {
		return -1, errors.New(s.exit.Error)
	}
	return s.exit.Code, nil
}

func (s *agentStream) kill() error { return s.link.out.Write(wire.Kill, s.id, nil) }
