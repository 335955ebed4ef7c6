package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// BenchmarkHealth asks for a pool's health over the unix socket, and in turn a bare net/http server
// that answers the same bytes: no timeouts, no callers to know, nothing to log. The ratio is how
// many answers a second we give for each of the bare server's. Both servers and the callers share
// this process.
func BenchmarkHealth(b *testing.B) {
	reg := registry.New()
	for i := range 100 {
		p := registrytest.Llama()
		p.ID = fmt.Sprintf("pool-%d", i)
		reg.Put(p)
	}
	for _, connections := range []int{1, 64} {
		b.Run(fmt.Sprintf("connections_%d", connections), func(b *testing.B) {
			s, err := New(Options{Registry: reg, Backend: units{}, Log: slog.New(slog.NewJSONHandler(io.Discard, nil))})
			if err != nil {
				b.Fatal(err)
			}
			ours := newCallers(b, connections, s.Serve)
			bare := newCallers(b, connections, serveBare(b, ours.body))
			var mine, theirs spent
			// requests of each side on end, so that whatever else the processor does meets both
			turn := max(1, 128/connections)
			n := 0
			for b.Loop() {
				mine.add(ours.ask(b, turn))
				theirs.add(bare.ask(b, turn))
				n += turn * connections
			}
			b.ReportMetric(float64(n)/mine.time.Seconds(), "ours/s")
			b.ReportMetric(float64(n)/theirs.time.Seconds(), "bare/s")
			b.ReportMetric(theirs.time.Seconds()/mine.time.Seconds(), "ratio")
			b.ReportMetric(theirs.cpu.Seconds()/mine.cpu.Seconds(), "cpu-ratio")
		})
	}
}

// serveBare is the other side: a handler that writes a body, routed by the mux.
func serveBare(b *testing.B, body string) func(context.Context, ...net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/pools/{id}/health", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	})
	return func(ctx context.Context, l ...net.Listener) error {
		srv := &http.Server{Handler: mux}
		context.AfterFunc(ctx, func() { srv.Close() })
		_ = srv.Serve(l[0])
		return nil
	}
}

// callers are connections that ask at the same time, each the next as soon as it has an answer.
type callers struct {
	open []*bufio.ReadWriter
	size int // of one answer
	body string
}

func newCallers(b *testing.B, n int, serve func(context.Context, ...net.Listener) error) *callers {
	b.Helper()
	path := filepath.Join(b.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, l) }()
	c := &callers{}
	for range n {
		conn, err := net.Dial("unix", path)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		c.open = append(c.open, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn)))
	}
	b.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	c.learn(b)
	return c
}

const healthRequest = "GET /v1/pools/pool-50/health HTTP/1.1\r\nHost: api\r\nUser-Agent: bench\r\n\r\n"

// learn asks once, so that later answers are read by their length alone.
func (c *callers) learn(b *testing.B) {
	b.Helper()
	rw := c.open[0]
	if _, err := rw.WriteString(healthRequest); err != nil || rw.Flush() != nil {
		b.Fatal(err)
	}
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := rw.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		head.WriteString(line)
	}
	body, err := rw.ReadString('\n')
	if err != nil || !strings.HasPrefix(head.String(), "HTTP/1.1 200 ") {
		b.Fatalf("%v %s", err, head.String())
	}
	c.size, c.body = head.Len()+len(body), body
}

// spent is time on the clock, and of processors: of the server, the callers and the kernel for
// both.
type spent struct{ time, cpu time.Duration }

func (s *spent) add(more spent) { s.time, s.cpu = s.time+more.time, s.cpu+more.cpu }

// used is this process's processor time.
func used() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // cannot fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// ask sends n requests over each connection, and returns what that took.
func (c *callers) ask(b *testing.B, n int) spent {
	b.Helper()
	began, before := time.Now(), used()
	var all sync.WaitGroup
	for _, rw := range c.open {
		all.Go(func() {
			for range n {
				_, _ = rw.WriteString(healthRequest)
				_ = rw.Flush()
				if _, err := rw.Discard(c.size); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return spent{time.Since(began), used() - before}
}
