package probe

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// BenchmarkAmongHung probes a thousand engines once a second each, spread over it, first with all
// well and then with some that never answer, and compares the 99th percentiles of the well ones.
func BenchmarkAmongHung(b *testing.B) {
	for _, hung := range []int{1, 100} {
		b.Run(strconv.Itoa(hung), func(b *testing.B) {
			h := hosts(b, 1000)
			p, results := New(), make(chan []Result, 1000)
			defer p.Close()
			s := p.Schedule(unguarded, func(batch []Result) { results <- batch })
			runs(b, s)
			var all []*Watch
			for _, name := range h.names {
				c := Check{Kind: HTTP, Host: name, Path: "/health", Status: 200, Timeout: 500 * time.Millisecond}
				all = append(all, s.Add(Target{Interval: time.Hour, Check: c}))
			}
			for n := 0; n < len(all); n += len(<-results) { // connections are made
			}
			var well, beside []time.Duration
			for b.Loop() {
				h.hang(0)
				well = append(well, h.probeAll(b, s, results, all)...)
				h.hang(hung)
				beside = append(beside, h.probeAll(b, s, results, all)...)
			}
			before, after := percentile(well, 99), percentile(beside, 99)
			b.ReportMetric(float64(before)/1e6, "p99-well-ms")
			b.ReportMetric(float64(after)/1e6, "p99-hung-ms")
			b.ReportMetric(float64(after)/float64(before), "ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// manyHosts are addresses of 127.0.0.0/8 behind one listener: to the prober each is an engine of
// its own.
type manyHosts struct {
	names []string
	mu    sync.RWMutex
	hung  map[string]bool
}

func hosts(b *testing.B, n int) *manyHosts {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		b.Fatal(err)
	}
	h := &manyHosts{}
	for i := range n {
		h.names = append(h.names, fmt.Sprintf("127.1.%d.%d:%d", i/250, 1+i%250, l.Addr().(*net.TCPAddr).Port))
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l)
	}()
	b.Cleanup(func() {
		srv.Close()
		<-done
	})
	return h
}

// hang makes the first n hosts stop answering.
func (h *manyHosts) hang(n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.hung = make(map[string]bool)
	for _, name := range h.names[:n] {
		h.hung[name] = true
	}
}

func (h *manyHosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.RLock()
	hung := h.hung[r.Host]
	h.mu.RUnlock()
	if hung {
		<-r.Context().Done()
		return
	}
	fmt.Fprint(w, `{"status":"ok"}`)
}

// probeAll has every host probed once, as the manager does, each at its own time within a second,
// and returns how long those took that answered.
func (h *manyHosts) probeAll(b *testing.B, s *Schedule, results <-chan []Result, all []*Watch) (took []time.Duration) {
	began := time.Now()
	s.order(func() {
		for i, w := range all {
			s.due.drop(w)
			w.at = began.Add(time.Duration(i) * time.Second / time.Duration(len(all)))
			s.due.add(w)
		}
	})
	for left := len(all); left > 0; {
		for _, r := range <-results {
			if left--; r.Err == nil {
				took = append(took, r.Took)
			}
		}
	}
	return took
}

func percentile(d []time.Duration, p int) time.Duration {
	slices.Sort(d)
	return d[min(len(d)*p/100, len(d)-1)]
}
