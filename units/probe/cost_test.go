package probe

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// serveVariable makes the test binary a server: what it costs must not be counted as the client's.
const serveVariable = "PROBE_TEST_SERVES"

func TestMain(m *testing.M) {
	if os.Getenv(serveVariable) != "" {
		l, err := net.Listen("tcp4", "0.0.0.0:0")
		if err != nil {
			panic(err)
		}
		fmt.Println(l.Addr().(*net.TCPAddr).Port)
		go func() { _, _ = io.Copy(io.Discard, os.Stdin); os.Exit(0) }() // the benchmark has ended
		panic(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"status":"ok"}`)
		})))
	}
	os.Exit(m.Run())
}

// served are n engines in another process, as "127.1.0.1:PORT".
func served(b *testing.B, n int) (hosts []string) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), serveVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { in.Close(); _ = cmd.Wait() })
	port, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	for i := range n {
		hosts = append(hosts, fmt.Sprintf("127.1.%d.%d:%s", i/250, 1+i%250, strings.TrimSpace(port)))
	}
	return hosts
}

// way is one way to ask an engine for its health.
type way struct {
	name  string
	ask   func(ctx context.Context, host string) error // nil: all are asked by tick
	tick  func(hosts []string)
	close func()
}

// ways are this package's, the library's, and the least that one could do.
func ways(b *testing.B) []way {
	p := New()
	library := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 1}}
	r := &rawClient{conns: make(map[string]net.Conn)}
	return []way{
		{name: "ours", tick: scheduled(b, p), close: p.Close},
		{name: "net_http", ask: func(ctx context.Context, host string) error {
			ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+"/health", nil)
			if err != nil {
				return err
			}
			resp, err := library.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		}, close: library.CloseIdleConnections},
		{name: "raw", ask: r.ask, close: r.close},
	}
}

// scheduled has a schedule probe hosts, all at the same moment.
func scheduled(b *testing.B, p *Prober) func(hosts []string) {
	results := make(chan []Result, 1000)
	s := p.Schedule(unguarded, func(batch []Result) { results <- batch })
	runs(b, s)
	var all []*Watch
	return func(hosts []string) {
		if all != nil {
			s.order(func() {
				for _, w := range all {
					s.due.drop(w)
				}
				s.begin(all...)
			})
		} else {
			for _, host := range hosts {
				all = append(all, s.Add(Target{Interval: time.Hour,
					Check: Check{Kind: HTTP, Host: host, Path: "/health", Status: 200, Timeout: 5 * time.Second}}))
			}
		}
		for got := 0; got < len(hosts); {
			for _, r := range <-results {
				if got++; r.Err != nil {
					b.Error(r.Err)
				}
			}
		}
	}
}

// rawClient writes a request to a kept connection and reads once.
type rawClient struct {
	mu    sync.Mutex
	conns map[string]net.Conn
}

func (r *rawClient) ask(_ context.Context, host string) error {
	r.mu.Lock()
	c := r.conns[host]
	r.mu.Unlock()
	if c == nil {
		var err error
		if c, err = net.Dial("tcp", host); err != nil {
			return err
		}
		r.mu.Lock()
		r.conns[host] = c
		r.mu.Unlock()
	}
	if _, err := io.WriteString(c, "GET /health HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return err
	}
	var buf [512]byte
	_, err := c.Read(buf[:])
	return err
}

func (r *rawClient) close() {
	for _, c := range r.conns {
		c.Close()
	}
}

// BenchmarkCost is what a probe costs in processor time, and an idle engine in memory, beside the
// library's client and the least possible. A hundred engines are asked at the same moment, as on a
// common grid; the sides take turns.
func BenchmarkCost(b *testing.B) {
	hosts, all := served(b, 100), ways(b)
	const rounds = 20
	spent, bytes := make([]time.Duration, len(all)), make([]int64, len(all))
	for i, w := range all {
		before := heldBytes()
		tick(b, hosts, w)
		bytes[i] = heldBytes() - before
	}
	n := 0
	for b.Loop() {
		for range rounds {
			for i, w := range all {
				before := processorTime()
				tick(b, hosts, w)
				spent[i] += processorTime() - before
				time.Sleep(5 * time.Millisecond)
			}
			n += len(hosts)
		}
	}
	for i, w := range all {
		w.close()
		b.ReportMetric(float64(spent[i].Nanoseconds())/float64(n)/1e3, w.name+"-µs/probe")
		b.ReportMetric(float64(bytes[i])/float64(len(hosts)), w.name+"-B/idle")
	}
	b.ReportMetric(float64(spent[0])/float64(spent[1]), "ours/net_http")
	b.ReportMetric(float64(spent[0])/float64(spent[2]), "ours/raw")
	b.ReportMetric(0, "ns/op")
}

// tick asks every host once, where the way has none of its own from a goroutine each.
func tick(b *testing.B, hosts []string, w way) {
	if w.tick != nil {
		w.tick(hosts)
		return
	}
	var all sync.WaitGroup
	for _, host := range hosts {
		all.Go(func() {
			if err := w.ask(b.Context(), host); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
}

// heldBytes is what the heap and the stacks of live goroutines hold.
func heldBytes() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

func processorTime() time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
