package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// socketUnit holds a listening socket as PID 1 does: each daemon gets a duplicate, and the socket
// outlives them.
type socketUnit struct {
	t    *testing.T
	file *os.File
	addr net.Addr
}

func newSocketUnit(t *testing.T, network string) *socketUnit {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "api.sock")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if ul, ok := l.(*net.UnixListener); ok {
		ul.SetUnlinkOnClose(false)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	t.Cleanup(func() { f.Close() })
	return &socketUnit{t, f, l.Addr()}
}

func (s *socketUnit) listener() net.Listener {
	s.t.Helper()
	l, err := net.FileListener(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	return l
}

func (s *socketUnit) client() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		MaxIdleConnsPerHost: 8,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, s.addr.Network(), s.addr.String())
		},
	}}
}

// TestRestartsLoseNothing: eight callers, with and without keep-alive, while the daemon restarts
// ten times. A request is never sent twice, so a single reset would show.
func TestRestartsLoseNothing(t *testing.T) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) { restartsLoseNothing(t, newSocketUnit(t, network)) })
	}
}

func restartsLoseNothing(t *testing.T, unit *socketUnit) {
	settings := Settings{AuthOptional: true}
	var asked, failed atomic.Int64
	var callers sync.WaitGroup
	done := make(chan struct{})
	for i := range 8 {
		c := unit.client()
		c.Transport.(*http.Transport).DisableKeepAlives = i%2 == 0
		callers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				asked.Add(1)
				if err := askOnce(t.Context(), c); err != nil {
					failed.Add(1)
					t.Errorf("a request failed: %v", err)
					return
				}
			}
		})
	}
	for range 10 {
		h := newServer(t, settings, units{})
		h.reg.Put(registrytest.Llama())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		began := asked.Load()
		go func() { ended <- h.server.Serve(ctx, unit.listener()) }()
		for asked.Load() < began+50 && failed.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatalf("Serve: %v", err)
		}
	}
	close(done)
	last := newServer(t, settings, units{}) // answers what waits in the socket
	last.reg.Put(registrytest.Llama())
	last.run(unit.listener())
	callers.Wait()
	if asked.Load() < 500 {
		t.Errorf("only %d requests", asked.Load())
	}
}

// askOnce sends one request that net/http must not repeat: a body without GetBody makes it so.
func askOnce(ctx context.Context, c *http.Client) error {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://localhost/v1/pools/llama3-8b",
		io.NopCloser(strings.NewReader("{}")))
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != 200 || !strings.Contains(string(body), "llama3-8b") {
		return fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	return nil
}

func TestTheSocketPathStays(t *testing.T) {
	h := newServer(t, Settings{}, units{})
	path := filepath.Join(t.TempDir(), "api.sock")
	l, err := net.Listen("unix", path) // unlinks at close by default
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.server.Serve(ctx, l); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Errorf("the socket's path is gone: %v", err)
	}
}

// slow is a backend whose answer waits for the test.
type slow struct{ asked, answer chan struct{} }

func (s slow) RenderUnit(ctx context.Context, id string) (string, error) {
	close(s.asked)
	<-s.answer
	return "[Service]\n", nil
}

// TestTheEndWaitsForAnswers: a request in progress at the shutdown is answered, with Connection:
// close.
func TestTheEndWaitsForAnswers(t *testing.T) {
	backend := slow{make(chan struct{}), make(chan struct{})}
	h := newServer(t, Settings{}, backend)
	h.reg.Put(registrytest.Llama())
	unit := newSocketUnit(t, "unix")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- h.server.Serve(ctx, unit.listener()) }()

	// An idle keep-alive connection, and one with a request in progress.
	idle, err := net.Dial("unix", unit.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	reader := bufio.NewReader(idle)
	first := askRaw(t, idle, reader, "/health")
	if first.Close {
		t.Error("Connection: close before the shutdown")
	}
	answered := make(chan reply, 1)
	h.socket = unit.addr.String()
	go func() { answered <- h.get("/v1/pools/llama3-8b/unit") }()
	<-backend.asked
	cancel()
	for !h.server.ending.Load() {
		time.Sleep(time.Millisecond)
	}
	// A request that comes on the idle connection now is answered too, with Connection: close.
	if last := askRaw(t, idle, reader, "/health"); last.StatusCode != 200 || !last.Close {
		t.Errorf("status %d, Connection: close %t", last.StatusCode, last.Close)
	}
	select {
	case err := <-ended:
		t.Fatalf("the server ended before its answer: %v", err)
	default:
	}
	close(backend.answer)
	if r := <-answered; r.status != 200 || r.body != "[Service]\n" {
		t.Errorf("%d %s", r.status, r.body)
	}
	if err := <-ended; err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func askRaw(t *testing.T, c net.Conn, r *bufio.Reader, path string) *http.Response {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatalf("GET %s: %v", path, err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}

// TestASlowReaderDelaysNoOther: a caller that requests much and reads nothing.
func TestASlowReaderDelaysNoOther(t *testing.T) {
	h := serve(t, Settings{}, units{})
	for i := range 500 {
		p := registrytest.Llama()
		p.ID = fmt.Sprintf("pool-%03d", i)
		h.reg.Put(p)
	}
	for range 4 {
		c, err := net.Dial("unix", h.socket)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.(*net.UnixConn).SetReadBuffer(4096); err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET /v1/pools HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	if r := h.get("/v1/pools"); r.status != 200 || strings.Count(r.body, `"invocation_id"`) != 1000 {
		t.Errorf("%d, %d bytes", r.status, len(r.body))
	}
}

// TestDescriptorsAreGivenBack: nothing of a request stays open.
func TestDescriptorsAreGivenBack(t *testing.T) {
	h := serve(t, Settings{}, units{})
	h.get("/health")
	before := descriptors(t)
	for range 50 {
		h.get("/v1/pools")
	}
	for range 400 {
		if descriptors(t) <= before {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d descriptors are open, %d before", descriptors(t), before)
}

func descriptors(t *testing.T) int {
	t.Helper()
	n := 0
	for fd := range 1024 {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil {
			n++
		}
	}
	return n
}

func BenchmarkList500Pools(b *testing.B) {
	reg := registry.New()
	for i := range 500 {
		p := registrytest.Llama()
		p.ID = fmt.Sprintf("pool-%03d", i)
		reg.Put(p)
	}
	s, err := New(Options{Registry: reg, Backend: units{}, Log: discard()})
	if err != nil {
		b.Fatal(err)
	}
	ask := func() {
		r, _ := http.NewRequestWithContext(withCaller(context.Background()), "GET", "/v1/pools", nil)
		s.ServeHTTP(&nowhere{header: make(http.Header)}, r)
	}
	b.Run("nothing_changed", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			ask()
		}
	})
	b.Run("one_pool_changed", func(b *testing.B) {
		b.ReportAllocs()
		p := registrytest.Llama()
		p.ID = "pool-250"
		for b.Loop() {
			reg.Put(p)
			ask()
		}
	})
}
