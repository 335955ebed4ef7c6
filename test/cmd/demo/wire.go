package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"
)

// wireSocket is the name of a wire's socket.
const wireSocket = "etcd.sock"

// wire carries the connections of one machine to etcd, from a unix socket in a directory that the
// machine sees.
type wire struct {
	dir string

	mu    sync.Mutex
	whole *sync.Cond
	isCut bool
	ended bool

	listener net.Listener
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

func newWire(dir, to string) (*wire, error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", filepath.Join(dir, wireSocket))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &wire{dir: dir, listener: l, cancel: cancel}
	w.whole = sync.NewCond(&w.mu)
	w.running.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			w.running.Go(func() { w.join(ctx, near, to) })
		}
	})
	return w, nil
}

func (w *wire) join(ctx context.Context, near net.Conn, to string) {
	defer near.Close()
	var d net.Dialer
	far, err := d.DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer far.Close()
	defer context.AfterFunc(ctx, func() { near.Close(); far.Close() })()
	var back sync.WaitGroup
	back.Go(func() { w.carry(near, far) })
	w.carry(far, near)
	back.Wait()
}

// carry copies while the wire is whole. What arrives meanwhile is carried later, as a network does
// that comes back.
func (w *wire) carry(to io.WriteCloser, from io.Reader) {
	defer to.Close()
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil || !w.wait() {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// wait waits until the wire is whole; false: it has ended.
func (w *wire) wait() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.isCut && !w.ended {
		w.whole.Wait()
	}
	return !w.ended
}

// cut has the wire carry nothing, without closing anything, or carry again.
func (w *wire) cut(is bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = is
	w.whole.Broadcast()
}

func (w *wire) close() {
	w.mu.Lock()
	w.ended = true
	w.whole.Broadcast()
	w.mu.Unlock()
	w.listener.Close()
	w.cancel()
	w.running.Wait()
}

// etcdServer is a member that runs on this host.
type etcdServer struct {
	dir               string
	address, endpoint string // for clients
	peer              string
	run               *exec.Cmd
}

// startEtcd runs one on free ports of the loopback.
func startEtcd(ctx context.Context, dir string) (*etcdServer, error) {
	if _, err := exec.LookPath("etcd"); err != nil {
		return nil, errors.New("there is no etcd on this host: apt-get install etcd-server")
	}
	e := &etcdServer{dir: dir}
	var err error
	if e.address, err = freeAddress(); err != nil {
		return nil, err
	}
	if e.peer, err = freeAddress(); err != nil {
		return nil, err
	}
	e.endpoint = "http://" + e.address
	return e, e.start(ctx)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// start executes etcd, and waits until it accepts connections.
func (e *etcdServer) start(ctx context.Context) error {
	e.run = exec.Command("etcd", "--name", "demo", "--data-dir", e.dir, "--log-level", "warn",
		"--listen-client-urls", e.endpoint, "--advertise-client-urls", e.endpoint,
		"--listen-peer-urls", "http://"+e.peer, "--initial-advertise-peer-urls", "http://"+e.peer,
		"--initial-cluster", "demo=http://"+e.peer)
	e.run.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := e.run.Start(); err != nil {
		e.run = nil
		return err
	}
	for begun := time.Now(); time.Since(begun) < patience; {
		conn, err := net.Dial("tcp", e.address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
	return fmt.Errorf("etcd does not accept connections at %s", e.address)
}

// restart kills etcd, as a loss of power does, and starts it again after a while.
func (e *etcdServer) restart(ctx context.Context, away time.Duration) error {
	e.close()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(away):
	}
	return e.start(ctx)
}

func (e *etcdServer) close() {
	if e.run != nil {
		_ = e.run.Process.Kill() // it may have ended
		_ = e.run.Wait()         // it was killed
		e.run = nil
	}
}
