package api

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry/api/sockdiag"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/test/hostile"
)

// dialler opens connections in a thread of another user, one after another.
type dialler struct{ ask chan chan net.Conn }

// asUser returns a dialler that runs until ctx ends. Credentials are per thread in Linux; the
// thread is never unlocked, so that it ends with its goroutine.
func asUser(ctx context.Context, t *testing.T, uid uintptr, network, address string) *dialler {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	d := &dialler{make(chan chan net.Conn)}
	go func() {
		runtime.LockOSThread()
		_, _, errno := unix.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0)
		if errno == 0 {
			_, _, errno = unix.RawSyscall(unix.SYS_SETRESUID, uid, uid, uid)
		}
		if errno != 0 {
			t.Errorf("become user %d: %v", uid, errno)
		}
		for {
			select {
			case <-ctx.Done():
				return
			case answer := <-d.ask:
				c, err := net.Dial(network, address)
				if err != nil || errno != 0 {
					c = nil
				}
				answer <- c
			}
		}
	}()
	return d
}

func (d *dialler) dial(ctx context.Context) (net.Conn, error) {
	answer := make(chan net.Conn, 1)
	select {
	case d.ask <- answer:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := <-answer; c != nil {
		return c, nil
	}
	return nil, errors.New("refused")
}

// openToAll serves on a unix socket that every user may open, and on TCP, with the kernel's word on
// who connects.
func openToAll(t *testing.T, settings Settings, with ...func(*Server)) *host {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "pool-api") // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	h := newServer(t, settings, units{})
	h.socket = filepath.Join(dir, "api.sock")
	ul, err := net.Listen("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{dir, h.socket} {
		if err := os.Chmod(p, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	asker, err := sockdiag.Open(nil, tl.Addr().(*net.TCPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(asker.Close)
	h.server.peers = noEngines{asker}
	for _, change := range with {
		change(h.server)
	}
	h.tcp = tl.Addr().String()
	h.run(ul, tl)
	return h
}

// noEngines is the kernel's word on a host without engines.
type noEngines struct{ *sockdiag.Asker }

func (noEngines) Engine(sockdiag.Owner) (bool, error) { return false, nil }

// TestHostileClients: twenty clients of six kinds, all of one user or each of its own, over the
// unix socket and over TCP. Root is answered every time, over a new connection.
func TestHostileClients(t *testing.T) {
	for _, c := range []struct {
		name, network string
		users         int
	}{
		{"one_user", "unix", 1}, {"twenty_users", "unix", 20}, {"one_user_over_tcp", "tcp", 1},
		{"twenty_users_over_tcp", "tcp", 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			// A tenth of the limits, so that this process can play every client.
			small := limits{all: 51, ordinary: 38, each: 25, swap: true}
			h := openToAll(t, Settings{AuthOptional: c.users > 1}, func(s *Server) {
				s.conns.limits, s.streams.limits = small, limits{all: 16, ordinary: 12, each: 6}
			})
			h.reg.Put(registrytest.Llama())
			address := h.socket
			if c.network == "tcp" {
				address = h.tcp
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var dials []*dialler
			for i := range c.users {
				dials = append(dials, asUser(ctx, t, uintptr(61300+i), c.network, address))
			}
			var next atomic.Int64
			attacked := make(chan int64, 1)
			began := time.Now()
			go func() {
				attacked <- hostile.Run(ctx, 20, 8, func(ctx context.Context) (net.Conn, error) {
					return dials[int(next.Add(1))%len(dials)].dial(ctx)
				})
			}()
			for range 2000 { // until it is full, as far as one account may fill it
				if h.server.conns.size() >= small.each {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			client := h.overSocket()
			client.Timeout = 2 * time.Minute
			for range 50 {
				if r := h.do(client, http.MethodGet, "http://socket/v1/pools"); r.status != 200 {
					t.Fatalf("root: %d %s", r.status, r.body)
				}
			}
			if n := h.server.conns.size(); n < small.each/2 {
				t.Errorf("only %d connections were held: that was no attack", n)
			}
			if n := h.server.conns.size(); n > small.all {
				t.Errorf("%d connections are open", n)
			}
			h.logged("too many connections are open", `"identity":"uid:613`, `"count":`)
			minutes := 1 + int(time.Since(began)/time.Minute) // begun
			if n := strings.Count(h.log.String(), "too many connections are open"); n > c.users*minutes {
				t.Errorf("%d lines about %d users in %d minutes", n, c.users, minutes)
			}
			cancel()
			t.Logf("%d connections were opened", <-attacked)
		})
	}
}

// TestAnAccountAtItsLimit: the oldest connection that is not in use is closed for the new one, and
// the account is one that crowds; another one, below its limit, is not.
func TestAnAccountAtItsLimit(t *testing.T) {
	h := openToAll(t, Settings{}, func(s *Server) { s.conns.limits = limits{all: 8, ordinary: 4, each: 2, swap: true} })
	d := asUser(t.Context(), t, 61300, "unix", h.socket)
	open := func() net.Conn {
		t.Helper()
		c, err := d.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	first := open()
	second := open()
	for h.server.conns.size() < 2 {
		time.Sleep(time.Millisecond)
	}
	third := open()
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("the oldest is still open")
	}
	for _, c := range []net.Conn{second, third} {
		if _, err := c.Write([]byte("GET /health HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
			t.Error(err)
		}
		if n, err := c.Read(make([]byte, 100)); err != nil || n == 0 {
			t.Errorf("one of the newer: %v", err)
		}
	}
	if r := h.do(h.overSocket(), http.MethodGet, "http://socket/v1/pools"); r.status != 200 {
		t.Errorf("root: %d", r.status)
	}
	h.server.pace.mu.Lock()
	defer h.server.pace.mu.Unlock()
	if _, crowds := h.server.pace.crowding[account{kind: accountUser, uid: 61300}]; !crowds ||
		len(h.server.pace.crowding) != 1 {
		t.Errorf("%v crowd", h.server.pace.crowding)
	}
}
