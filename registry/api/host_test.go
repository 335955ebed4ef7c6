package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/history"
	"github.com/pool-managerd/pool-managerd/registry/api/sockdiag"
	"github.com/pool-managerd/pool-managerd/registry/lease"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// secret is the token that tests write into token files.
const secret = "0123456789abcdef0123456789abcdef"

// units is a Backend with the answers that a test sets.
type units map[string]error

func (u units) RenderUnit(ctx context.Context, id string) (string, error) {
	err, ok := u[id]
	switch {
	case !ok:
		return "# pool-engine@" + id + ".r0.service\n[Service]\nType=exec\n", nil
	case err == nil: // never answers
		<-ctx.Done()
		return "", ctx.Err()
	case errors.Is(err, errPanic):
		panic("a defect")
	}
	return "", err
}

var errPanic = errors.New("panic, please")

// host is a server on a unix socket and on TCP, with a registry and a log to look at.
type host struct {
	t      testing.TB
	reg    *registry.Registry
	book   *lease.Book
	server *Server
	socket string
	tcp    string // host:port
	log    *logBuffer
	peers  peers
	stop   context.CancelFunc
	ended  chan error
}

// peers answers for the host: every TCP connection is of the user that the test sets.
type peers struct {
	mu     sync.Mutex
	owner  sockdiag.Owner
	engine bool
	err    error
}

func (p *peers) set(owner sockdiag.Owner, engine bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.owner, p.engine, p.err = owner, engine, err
}

func (p *peers) Peer(_, _ netip.AddrPort) (sockdiag.Owner, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.owner, p.err
}

func (p *peers) Engine(sockdiag.Owner) (bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.engine, nil
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tokenFile writes a token file and returns its path.
func tokenFile(t testing.TB, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// newServer makes a server that does not listen yet.
func newServer(t testing.TB, settings Settings, backend Backend) *host {
	t.Helper()
	h := &host{t: t, reg: registry.New(), log: &logBuffer{}}
	book, err := lease.Open(&memory{}, func() lease.Moment { return lease.Moment(time.Now().UnixNano()) },
		h.reg.LeasesChanged)
	if err != nil {
		t.Fatal(err)
	}
	h.server, err = New(Options{
		Registry: h.reg, History: history.New(h.reg), Backend: backend, Operator: &operators{}, Library: &libraries{},
		Bench: &benches{}, Fleet: &fleets{},
		Leases: &Leases{Book: book, Now: func() lease.Moment {
			return lease.Moment(time.Now().UnixNano())
		}}, Settings: settings, Version: "1.2.3", Now: func() time.Time {
			return registrytest.Start().Add(time.Minute)
		},
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "pool_ready 1\n")
		}),
		Peers: &h.peers,
		Log:   slog.New(slog.NewJSONHandler(h.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	h.runBook(t, book)
	return h
}

// runBook has the server use a book of leases, until the test ends.
func (h *host) runBook(t testing.TB, book *lease.Book) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = book.Run(ctx, func([]lease.Ended) {})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	h.book, h.server.leases.Book = book, book
	h.reg.CountLeases(book.Active)
}

// serve starts a host; the test's end stops it and checks that it ended well.
func serve(t testing.TB, settings Settings, backend Backend) *host {
	t.Helper()
	h := newServer(t, settings, backend)
	h.listen()
	return h
}

// listen starts the server on a socket and a port of its own.
func (h *host) listen() {
	h.t.Helper()
	h.socket = filepath.Join(h.t.TempDir(), "api.sock")
	ul, err := net.Listen("unix", h.socket)
	if err != nil {
		h.t.Fatal(err)
	}
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	h.tcp = tl.Addr().String()
	h.run(ul, tl)
}

func (h *host) run(listeners ...net.Listener) {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.ended = cancel, make(chan error, 1)
	go func() { h.ended <- h.server.Serve(ctx, listeners...) }()
	h.t.Cleanup(func() {
		cancel()
		select {
		case err := <-h.ended:
			if err != nil {
				h.t.Errorf("Serve: %v", err)
			}
		case <-time.After(20 * time.Second):
			h.t.Error("Serve does not end")
		}
	})
}

// overSocket is a client of the unix socket; no connection is reused.
func (h *host) overSocket() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", h.socket)
		},
	}}
}

// reply is what a caller got.
type reply struct {
	status int
	header http.Header
	body   string
	json   map[string]any // nil where the body is no JSON object
}

// send asks over the unix socket, with a JSON body where there is one.
func (h *host) send(method, url, body string) reply {
	h.t.Helper()
	return h.ask(h.overSocket(), method, url, body, "Content-Type", "application/json")
}

func (h *host) do(c *http.Client, method, url string, header ...string) reply {
	h.t.Helper()
	return h.ask(c, method, url, "", header...)
}

func (h *host) ask(c *http.Client, method, url, body string, header ...string) reply {
	h.t.Helper()
	req, err := http.NewRequestWithContext(h.t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			req.Host = header[i+1]
		}
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := c.Do(req)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatalf("%s %s: %v", method, url, err)
	}
	wantDescribed(h.t, method, url, resp.StatusCode, resp.Header.Get("Content-Type"), got)
	r := reply{status: resp.StatusCode, header: resp.Header, body: string(got)}
	if err := json.Unmarshal(got, &r.json); err != nil {
		r.json = nil
	}
	return r
}

// get asks over the unix socket.
func (h *host) get(path string, header ...string) reply {
	h.t.Helper()
	return h.do(h.overSocket(), http.MethodGet, "http://socket"+path, header...)
}

// getTCP asks over TCP.
func (h *host) getTCP(path string, header ...string) reply {
	h.t.Helper()
	return h.do(&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, http.MethodGet, "http://"+h.tcp+path,
		header...)
}

// wantError checks the shape that every error has.
func (r reply) wantError(t testing.TB, status int, code string) {
	t.Helper()
	if r.status != status || r.json["code"] != code {
		t.Errorf("got %d %s, want %d %s", r.status, r.body, status, code)
	}
	if _, ok := r.json["message"].(string); !ok {
		t.Errorf("no message: %s", r.body)
	}
	if _, ok := r.json["retriable"].(bool); !ok {
		t.Errorf("not said whether to try again: %s", r.body)
	}
	if kind := r.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("Content-Type %q", kind)
	}
}

// logged waits until the log has a line with all of these; the line of a request is written after
// its answer.
func (h *host) logged(parts ...string) {
	h.t.Helper()
	for range 2000 {
		for line := range strings.Lines(h.log.String()) {
			if containsAll(line, parts) {
				return
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	h.t.Errorf("no log line with %q in:\n%s", parts, h.log)
}

func containsAll(s string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(s, p) {
			return false
		}
	}
	return true
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// nowhere takes an answer and forgets it.
type nowhere struct{ header http.Header }

func (n *nowhere) Header() http.Header         { return n.header }
func (n *nowhere) WriteHeader(int)             {}
func (n *nowhere) Write(p []byte) (int, error) { return len(p), nil }
