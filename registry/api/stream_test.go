package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// pipes is a listener whose connections stay in this process, so that a test's clock can be a fake
// one.
type pipes struct {
	dialled chan net.Conn
	closed  chan struct{}
}

// loopbackPipe is a connection that seems to come from this host over TCP.
type loopbackPipe struct{ net.Conn }

func (loopbackPipe) LocalAddr() net.Addr  { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2} }
func (loopbackPipe) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.dialled:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

// follow opens a stream of events and reads it up to the greeting.
func (p *pipes) follow(t *testing.T) *bufio.Reader {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	p.dialled <- loopbackPipe{theirs}
	go fmt.Fprintf(ours, "GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(ours), nil)
	if err != nil || resp.StatusCode != 200 || !resp.Close {
		t.Fatalf("%v %+v", err, resp)
	}
	body := bufio.NewReader(resp.Body)
	if line, err := body.ReadString('\n'); err != nil || !strings.HasPrefix(line, ": pool-managerd") {
		t.Fatalf("no greeting: %q %v", line, err)
	}
	return body
}

// bubble runs a test in a bubble with a server that its streams reach by pipes.
func bubble(t *testing.T, test func(t *testing.T, h *host, p *pipes)) {
	synctest.Test(t, func(t *testing.T) {
		h := newServer(t, Settings{AuthOptional: true}, units{})
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- h.server.Serve(ctx, p) }()
		test(t, h, p)
		stop()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// TestStreamsBeat: the comment comes each 15 s, whatever else happens, and longer than any timeout
// of a request.
func TestStreamsBeat(t *testing.T) {
	for _, c := range []struct {
		name   string
		happen func(h *host, n int)
	}{
		{"while_nothing_happens", func(*host, int) {}},
		{"while_engines_answer_their_probes", func(h *host, n int) {
			h.reg.Put(registry.Pool{ID: "a", LastHeartbeat: time.Now()})
		}},
		{"while_pools_change", func(h *host, n int) { h.reg.Put(registry.Pool{ID: "a", RestartCount: n}) }},
		{"while_events_flow", func(h *host, n int) { h.note("a", n) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, h *host, p *pipes) {
				body := p.follow(t)
				done := make(chan struct{})
				go func() {
					defer close(done)
					for n := range 120 {
						time.Sleep(time.Second)
						c.happen(h, n)
					}
				}()
				last := time.Now()
				for beats := 0; beats < 7; {
					line, err := body.ReadString('\n')
					if err != nil {
						t.Fatalf("after %d beats: %v", beats, err)
					}
					if line == ": alive\n" {
						if took := time.Since(last); took != heartbeat {
							t.Errorf("a beat after %s", took)
						}
						last = time.Now()
						beats++
					}
				}
				go io.Copy(io.Discard, body)
				<-done
			})
		})
	}
}

// TestAStreamThatIsNotRead is dropped, and delays no other.
func TestAStreamThatIsNotRead(t *testing.T) {
	bubble(t, func(t *testing.T, h *host, p *pipes) {
		p.follow(t) // and never reads on
		other := p.follow(t)
		began := time.Now()
		h.note("a", 1)
		for {
			line, err := other.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(line, "data: ") {
				break
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("a reader waited %s for another", took)
		}
		go io.Copy(io.Discard, other)
		time.Sleep(streamWrite + time.Millisecond)
		synctest.Wait()
		if n := h.server.streams.size(); n != 1 {
			t.Errorf("%d streams are open, want the one that is read", n)
		}
	})
}

// streams opens n streams over the socket, each read up to its greeting.
func (h *host) manyStreams(tb testing.TB, n int) []*bufio.Reader {
	tb.Helper()
	out := make([]*bufio.Reader, n)
	for i := range out {
		c, err := net.Dial("unix", h.socket)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			tb.Fatal(err)
		}
		out[i] = bufio.NewReaderSize(c, 16)
		until(tb, out[i], ": pool-managerd")
	}
	return out
}

// until reads lines until one begins with prefix.
func until(tb testing.TB, r *bufio.Reader, prefix string) {
	tb.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			tb.Fatal(err)
		}
		if strings.HasPrefix(line, prefix) {
			return
		}
	}
}

// TestAThousandStreams: each gets what happens, and requests are answered beside them.
func TestAThousandStreams(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("a user that may only read has fewer")
	}
	h := serve(t, Settings{}, units{})
	all := h.manyStreams(t, streamLimits().all)
	if r := h.get("/v1/events"); r.status != http.StatusTooManyRequests {
		t.Errorf("one more: %d", r.status)
	}
	if r := h.get("/v1/pools"); r.status != 200 {
		t.Errorf("a request beside them: %d", r.status)
	}
	h.note("a", 1)
	for _, r := range all {
		until(t, r, "data: ")
	}
}

// BenchmarkStreams is what one event costs with a thousand streams open, and how much memory each
// takes, with the little that its reader in this process takes.
func BenchmarkStreams(b *testing.B) {
	h := serve(b, Settings{}, units{})
	inUse := func() (heap, stack float64) {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse), float64(m.StackInuse)
	}
	heap, stack := inUse()
	const streams = 1000
	all := h.manyStreams(b, streams)
	withHeap, withStack := inUse()
	for n := 0; b.Loop(); n++ {
		h.note("a", n)
		for _, r := range all {
			until(b, r, "data: ")
		}
	}
	b.ReportMetric((withHeap-heap)/streams, "B-heap/stream")
	b.ReportMetric((withStack-stack)/streams, "B-stack/stream")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/streams, "ns/stream")
}
