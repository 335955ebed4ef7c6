package client

import (
	"context"
	"errors"
	"net"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
	"github.com/pool-managerd/pool-managerd/nvml/serve"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// socket stands for PID 1's: it takes connections whether a helper runs or not, and hands them to
// the one that runs.
type socket struct{ backlog chan net.Conn }

func (s *socket) dial(context.Context) (net.Conn, error) {
	ours, theirs := net.Pipe()
	s.backlog <- theirs
	return ours, nil
}

// listener is the socket as one helper has it.
type listener struct {
	*socket
	closed chan struct{}
	once   sync.Once
}

func (l *listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.backlog:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}
func (l *listener) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// gpu is a library with one GPU. Its driver hangs while someone else has the token of turn.
type gpu struct {
	turn   chan struct{}
	events chan *nvml.Event
	call   struct {
		sync.Mutex
		name  string
		since time.Time
	}
}

func (g *gpu) in(name string) {
	g.call.Lock()
	defer g.call.Unlock()
	g.call.name, g.call.since = name, time.Now()
}
func (g *gpu) Call() (string, time.Time) {
	g.call.Lock()
	defer g.call.Unlock()
	return g.call.name, g.call.since
}
func (g *gpu) Sample() (*nvml.Snapshot, error) {
	g.in("nvmlDeviceGetMemoryInfo_v2")
	defer g.in("")
	<-g.turn
	defer func() { g.turn <- struct{}{} }()
	return &nvml.Snapshot{Taken: time.Now(), Devices: []nvml.Device{{UUID: "GPU-1",
		Memory: &nvml.Memory{Total: 10, Free: 10}}}}, nil
}
func (g *gpu) Open() error    { return nil }
func (g *gpu) Close()         {}
func (g *gpu) Watch() error   { return nil }
func (g *gpu) Watching() bool { return true }
func (g *gpu) Unwatch()       {}
func (g *gpu) Wait(timeout time.Duration) (*nvml.Event, error) {
	select {
	case e := <-g.events:
		return e, nil
	case <-time.After(timeout):
		return nil, nil
	}
}

// run starts a helper on the socket. The function that it returns ends it, as its death would.
func (s *socket) run(t *testing.T, g *gpu) func() {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- serve.Run(ctx, &listener{socket: s, closed: make(chan struct{})}, serve.Options{Library: g,
			Peer:      func(net.Conn) (serve.Peer, error) { return serve.Peer{}, nil },
			Group:     func(int) owner.Group { return owner.Group{} },
			Populated: func(owner.Group) bool { return true }})
	}()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the helper: %v", err)
		}
	}
}

// TestWithTheHelper: the client and the real server, through idleness, an event, a hang and a
// death.
func TestWithTheHelper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &socket{backlog: make(chan net.Conn, 8)}
		g := &gpu{events: make(chan *nvml.Event), turn: make(chan struct{}, 1)}
		g.turn <- struct{}{}
		kill := s.run(t, g)
		c := New(Options{Interval: 2 * time.Second})
		c.dial = s.dial

		var mu sync.Mutex // of said and sessions
		var said []string
		sessions := map[string]bool{}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			done <- c.Follow(ctx, func(u nvml.Update) {
				mu.Lock()
				defer mu.Unlock()
				word := "facts"
				switch {
				case u.Snapshot != nil:
					sessions[u.Snapshot.Session] = true
				case u.Event != nil:
					word = string(u.Event.Kind)
				case u.Stale != nil:
					word = string(u.Stale.Problem.Kind)
				}
				if len(said) == 0 || said[len(said)-1] != word {
					said = append(said, word)
				}
			})
		}()
		expect := func(when string, want ...string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if !reflect.DeepEqual(said, want) {
				t.Errorf("%s: %q, want %q", when, said, want)
			}
			said = nil
		}
		time.Sleep(time.Second)
		expect("at the start", "no-helper", "facts")
		time.Sleep(10 * time.Minute)
		expect("ten minutes in which nothing changes", "facts")
		g.events <- &nvml.Event{Kind: nvml.EventXid, Device: "GPU-1", Code: 79}
		time.Sleep(100 * time.Millisecond)
		expect("an Xid", "xid")
		time.Sleep(5 * time.Second)
		expect("after it", "facts")
		<-g.turn
		time.Sleep(20 * time.Second)
		expect("a call hangs", "hung")
		if _, err := askOver(t, s, wire.Request{Op: wire.OpSnapshot}); !errors.Is(err, ErrNoAnswer) {
			t.Errorf("asked while a call hangs: %v", err)
		}
		g.turn <- struct{}{}
		time.Sleep(3 * time.Second)
		expect("it returns", "facts")

		kill()
		time.Sleep(30 * time.Second)
		expect("the helper is dead, its socket is not", "no-helper")
		kill = s.run(t, g)
		time.Sleep(70 * time.Second)
		expect("a new one", "facts")
		if len(sessions) != 2 {
			t.Errorf("%d sessions, want that of each helper", len(sessions))
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow = %v", err)
		}
		kill()
	})
}

// askOver is Ask through the pipe.
func askOver(t *testing.T, s *socket, req wire.Request) (wire.Reply, error) {
	conn, err := s.dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := send(conn, req); err != nil {
		t.Fatal(err)
	}
	r, err := newLines(conn).next()
	if err != nil {
		t.Fatal(err)
	}
	return r, check(req, r)
}
