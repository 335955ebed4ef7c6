package serve

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// fakeLibrary is a driver that does as a test says. It reports breaches of Library's contract as
// errors of the test.
type fakeLibrary struct {
	t *testing.T

	mu       sync.Mutex
	opening  *nvml.Problem // Open fails
	failing  *nvml.Problem // Sample fails
	waiting  *nvml.Problem // Wait fails
	noEvents bool
	devices  []nvml.Device
	lost     map[string]bool // GPUs that are lost until the next Open
	slow     time.Duration   // what Sample takes
	hangs    chan struct{}   // Sample hangs until it is closed
	waitHang chan struct{}
	call     string
	since    time.Time

	open, watching, inWait bool
	opens, samples, waits  int
	openedAt, sampledAt    []time.Time
	events                 chan nvml.Event
	openCalls              int
}

func newFake(t *testing.T, devices ...nvml.Device) *fakeLibrary {
	return &fakeLibrary{t: t, devices: devices, events: make(chan nvml.Event, 8), lost: make(map[string]bool)}
}

// set changes what the driver does, from the test's goroutine.
func (f *fakeLibrary) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeLibrary) Open() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.open {
		return nil
	}
	f.openCalls++
	f.openedAt = append(f.openedAt, time.Now())
	if f.opening != nil {
		return f.opening
	}
	f.open = true
	f.opens++
	return nil
}

func (f *fakeLibrary) Sample() (*nvml.Snapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.open {
		f.t.Error("Sample without a session")
	}
	f.samples++
	f.sampledAt = append(f.sampledAt, time.Now())
	if hangs := f.hangs; hangs != nil {
		f.call, f.since = "nvmlDeviceGetMemoryInfo_v2", time.Now()
		f.mu.Unlock()
		<-hangs
		f.mu.Lock()
		f.call = ""
	}
	if slow := f.slow; slow > 0 {
		f.mu.Unlock()
		time.Sleep(slow)
		f.mu.Lock()
	}
	if f.failing != nil {
		return nil, f.failing
	}
	s := &nvml.Snapshot{Taken: time.Now(), Driver: nvml.Driver{Version: "550.54.14"}}
	for i, d := range f.devices {
		d.Index = i
		if f.lost[d.UUID] {
			d.Problem = &nvml.Problem{Kind: nvml.ProblemLost, Code: 15, Text: "the GPU has fallen off the bus"}
		}
		s.Devices = append(s.Devices, d)
	}
	return s, nil
}

func (f *fakeLibrary) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inWait || f.watching {
		f.t.Error("Close while events are waited for")
	}
	f.open = false
}

func (f *fakeLibrary) Watch() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.watching = true
	return nil
}

func (f *fakeLibrary) Watching() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.watching && !f.noEvents
}

func (f *fakeLibrary) Unwatch() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.inWait {
		f.t.Error("Unwatch while a wait runs")
	}
	f.watching = false
}

func (f *fakeLibrary) Wait(timeout time.Duration) (*nvml.Event, error) {
	f.mu.Lock()
	f.waits++
	f.inWait = true
	failing, hang := f.waiting, f.waitHang
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.inWait = false; f.mu.Unlock() }()
	if failing != nil {
		return nil, failing
	}
	if hang != nil {
		<-hang
	}
	select {
	case e := <-f.events:
		return &e, nil
	case <-time.After(timeout):
		return nil, nil
	}
}

func (f *fakeLibrary) Call() (string, time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.call, f.since
}

// count reads a number of the fake's.
func (f *fakeLibrary) count(n *int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *n
}

// host is a server in a bubble, with pipes for sockets.
type host struct {
	t         *testing.T
	library   *fakeLibrary
	peer      Peer
	group     owner.Group
	populated func(owner.Group) bool
	conns     chan net.Conn
	closed    chan struct{}
	stop      context.CancelFunc
	ended     chan error
}

func start(t *testing.T, f *fakeLibrary) *host {
	h := &host{t: t, library: f, peer: Peer{PID: 1000}, conns: make(chan net.Conn), closed: make(chan struct{}),
		ended:     make(chan error, 1),
		populated: func(owner.Group) bool { return true }}
	ctx, stop := context.WithCancel(t.Context())
	h.stop = stop
	go func() {
		h.ended <- Run(ctx, &pipes{h, sync.Once{}}, Options{
			Library:   f,
			Peer:      func(net.Conn) (Peer, error) { return h.peer, nil },
			Group:     func(int) owner.Group { return h.group },
			Populated: func(g owner.Group) bool { return h.populated(g) },
			Lives:     func(pid int) bool { return pid > 0 && pid < 1000 },
		})
	}()
	return h
}

// end stops the server as SIGTERM does.
func (h *host) end() {
	h.t.Helper()
	h.stop()
	if err := <-h.ended; err != nil {
		h.t.Errorf("Run: %v", err)
	}
}

type pipes struct {
	h    *host
	once sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.h.conns:
		return c, nil
	case <-p.h.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { p.once.Do(func() { close(p.h.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// dial sends a raw first line and returns the connection.
func (h *host) dial(line string) *conn {
	h.t.Helper()
	ours, theirs := net.Pipe()
	select {
	case h.conns <- theirs:
	case <-h.closed:
		h.t.Fatal("the server does not listen")
	}
	if _, err := io.WriteString(ours, line); err != nil {
		h.t.Fatal(err)
	}
	return &conn{t: h.t, Conn: ours, r: bufio.NewReader(ours)}
}

func (h *host) ask(req wire.Request) wire.Reply {
	h.t.Helper()
	c := h.open(req)
	defer c.Close()
	return c.next()
}

func (h *host) open(req wire.Request) *conn {
	h.t.Helper()
	req.Version = wire.Version
	line, err := json.Marshal(req)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.dial(string(line) + "\n")
}

func (h *host) follow() *conn { return h.open(wire.Request{Op: wire.OpFollow}) }

type conn struct {
	t *testing.T
	net.Conn
	r *bufio.Reader
}

// next reads a line; the end of the connection is an error of the test.
func (c *conn) next() wire.Reply {
	c.t.Helper()
	r, err := c.read()
	if err != nil {
		c.t.Fatalf("no line: %v", err)
	}
	return r
}

func (c *conn) read() (wire.Reply, error) {
	var r wire.Reply
	line, err := c.r.ReadBytes('\n')
	if err != nil {
		return r, err
	}
	if err := json.Unmarshal(line, &r); err != nil {
		c.t.Fatalf("%q: %v", line, err)
	}
	if r.Version != wire.Version {
		c.t.Errorf("a line of protocol %d", r.Version)
	}
	return r, nil
}

// snapshot reads a line that must be one.
func (c *conn) snapshot() *nvml.Snapshot {
	c.t.Helper()
	r := c.next()
	if r.Snapshot == nil {
		c.t.Fatalf("want a snapshot, got %+v", r)
	}
	return r.Snapshot
}

// until reads lines until one is what the test waits for.
func (c *conn) until(what string, ok func(wire.Reply) bool) wire.Reply {
	c.t.Helper()
	for range 200 {
		r, err := c.read()
		if err != nil {
			c.t.Fatalf("no %s came: %v", what, err)
		}
		if ok(r) {
			return r
		}
	}
	c.t.Fatalf("no %s came in 200 lines", what)
	return wire.Reply{}
}

// inBubble runs a subtest in fake time.
func inBubble(t *testing.T, name string, test func(*testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
