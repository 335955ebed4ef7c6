package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
)

// notifySocket receives messages from systemd-nspawn, by the protocol of sd_notify(3), when the
// container's PID 1 has finished booting.
type notifySocket struct {
	conn *net.UnixConn
	done chan struct{} // closed when the reader has ended

	mu      sync.Mutex
	ready   int           // how often it has sent READY=1: once a boot
	changed chan struct{} // closed and renewed when ready grows
}

// listenNotify listens on a datagram socket at path, and owns a goroutine until close.
func listenNotify(path string) (*notifySocket, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, err
	}
	n := &notifySocket{conn: conn, done: make(chan struct{}), changed: make(chan struct{})}
	go n.read()
	return n, nil
}

// read takes messages until the socket is closed.
func (n *notifySocket) read() {
	defer close(n.done)
	buf := make([]byte, 4096)
	for {
		size, err := n.conn.Read(buf)
		if err != nil {
			return
		}
		n.take(string(buf[:size]))
	}
}

// take applies one message. With --notify-ready=yes, systemd-nspawn passes READY=1 on when the
// payload has it.
func (n *notifySocket) take(message string) {
	if !slices.Contains(strings.Split(message, "\n"), "READY=1") {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ready++
	close(n.changed)
	n.changed = make(chan struct{})
}

// boots returns how often the machine has become ready.
func (n *notifySocket) boots() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ready
}

// waitReady waits until the machine has become ready at least that many times, or fails when it
// ends before.
func (n *notifySocket) waitReady(ctx context.Context, boots int, ended <-chan struct{}) error {
	for {
		n.mu.Lock()
		ready, changed := n.ready, n.changed
		n.mu.Unlock()
		if ready >= boots {
			return nil
		}
		select {
		case <-changed:
		case <-ended:
			return errors.New("it ended before it was up")
		case <-ctx.Done():
			return fmt.Errorf("it was not up in time: %w", ctx.Err())
		}
	}
}

// close stops listening and waits for the reader.
func (n *notifySocket) close() {
	n.conn.Close()
	<-n.done
}
