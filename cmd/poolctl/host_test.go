package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// clock is the time in every test: one minute after the last event of the pools below.
var clock = registrytest.Start().Add(time.Minute)

const secret = "0123456789abcdef"

// units renders every pool but those that cannot be.
type units struct{}

func (units) RenderUnit(_ context.Context, id string) (string, error) {
	if id == "phi" {
		return "", registry.Fail(registry.CodeModelNotFound, "/srv/models/phi.gguf: no such file",
			"Copy the model there, or correct model in phi.toml.")
	}
	return "# pool-engine@" + id + ".r0.service\n[Service]\nType=exec\n" +
		"ExecStart=/usr/bin/llama-server \x1b]0;title\a\n", nil
}

// host is a real API server on a unix socket and on TCP.
type host struct {
	t      testing.TB
	reg    *registry.Registry
	socket string
	url    string
	token  string // file

	operators *operators
	shelf     stockpile
	leases    *lease.Book
	store     leaseStore
	passed    leaseClock
	bench     benches
	fleet     fleetHosts
}

// leaseStore keeps nothing: a test has one manager. It fails while it is broken.
type leaseStore struct{ broken atomic.Bool }

func (*leaseStore) Load() ([]lease.Lease, error) { return nil, nil }

func (s *leaseStore) Save([]lease.Lease, []string) error {
	if s.broken.Load() {
		return errBroken
	}
	return nil
}

// leaseClock is the time of leases: it stands still unless a test moves it.
type leaseClock struct{ at atomic.Int64 }

func (c *leaseClock) now() lease.Moment { return lease.Moment(c.at.Load()).Add(time.Hour) }

func (c *leaseClock) advance(d time.Duration) { c.at.Add(int64(d)) }

func newHost(t testing.TB) *host {
	t.Helper()
	h := &host{t: t, reg: registry.New(), socket: filepath.Join(t.TempDir(), "api.sock"),
		token: filepath.Join(t.TempDir(), "token")}
	if err := os.WriteFile(h.token, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h.operators = &operators{reg: h.reg}
	book, err := lease.Open(&h.store, h.passed.now, h.reg.LeasesChanged)
	if err != nil {
		t.Fatal(err)
	}
	h.leases = book
	server, err := api.New(api.Options{Registry: h.reg, Backend: units{}, Operator: h.operators, Library: &h.shelf,
		Bench:   &h.bench,
		Fleet:   &h.fleet,
		Version: "1.2.3",
		Now: func() time.Time {
			return clock
		},
		Leases:   &api.Leases{Book: book, Now: h.passed.now},
		Settings: api.Settings{TokenFile: h.token}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ul, err := net.Listen("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.url = "http://" + tl.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended, written := make(chan error, 1), make(chan error, 1)
	go func() { ended <- server.Serve(ctx, ul, tl) }()
	go func() { written <- book.Run(ctx, func([]lease.Ended) {}) }()
	t.Cleanup(func() {
		cancel()
		<-written
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return h
}

// result is what a command did.
type result struct {
	code        int
	out, errOut string
}

// poolctl runs a command line as main does.
func poolctl(ctx context.Context, args ...string) result {
	var out, errOut syncBuffer
	a := &app{out: &out, err: &errOut, now: func() time.Time {
		return clock
	}, every: 5 * time.Millisecond, journalctl: "journalctl", systemctl: "systemctl"}
	code := run(ctx, a, args)
	return result{code, out.String(), errOut.String()}
}

// run runs a command line against the host's socket.
func (h *host) run(args ...string) result {
	h.t.Helper()
	return poolctl(h.t.Context(), append(args, "--socket", h.socket)...)
}

// fill puts one pool of each kind into the registry.
func (h *host) fill() {
	for _, p := range registrytest.Pools() {
		h.reg.Put(p)
	}
	h.reg.SetProblems(registrytest.Problems())
}

// fillGPUs puts the same pools on GPUs.
func (h *host) fillGPUs() {
	for _, p := range registrytest.OnGPUs(registrytest.Pools()) {
		h.reg.Put(p)
	}
	h.reg.SetDevices(registrytest.Devices())
}

// syncBuffer may be read while a command writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var errBroken = errors.New("broken pipe")

// brokenPipe is an output that is closed.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }
