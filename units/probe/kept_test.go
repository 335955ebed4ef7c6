package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// scripted is a server whose connections answer requests in turn, as the n-th connection's script
// says; a connection without a further answer is closed when the next request has come.
type scripted struct {
	host string
	mu   sync.Mutex
	seen []string // "connection method", a request each
}

// What an answer in a script holds beside what is sent.
const (
	pieceMark = "\x00" // what follows is sent a moment later
	cutMark   = "\x01" // at its end: the connection is closed
)

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func script(t *testing.T, connections ...[]string) *scripted {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &scripted{host: l.Addr().String()}
	var done sync.WaitGroup
	done.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			done.Go(func() { s.serve(n, c, connections[min(n, len(connections)-1)]) })
		}
	})
	t.Cleanup(func() { l.Close(); done.Wait() })
	return s
}

func (s *scripted) serve(n int, c net.Conn, answers []string) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body) // all of it has come with the header
		s.mu.Lock()
		s.seen = append(s.seen, fmt.Sprintf("%d %s", n, req.Method))
		s.mu.Unlock()
		if len(answers) == 0 {
			return
		}
		for i, piece := range strings.Split(answers[0], pieceMark) {
			if i > 0 {
				time.Sleep(20 * time.Millisecond) // the first has arrived by itself
			}
			_, _ = io.WriteString(c, strings.TrimSuffix(piece, cutMark))
		}
		if strings.HasSuffix(answers[0], cutMark) {
			return
		}
		answers = answers[1:]
	}
}

func (s *scripted) requests() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.seen, ", ")
}

// TestKeptConnections: a connection is used again where that is right, and an engine that ends one
// takes no answer with it.
func TestKeptConnections(t *testing.T) {
	get := func(p *Prober, host string) error {
		return p.Probe(context.Background(), Check{Kind: HTTP, Host: host, Path: "/health", Status: 200,
			Timeout: 5 * time.Second})
	}
	post := func(p *Prober, host string) error {
		_, err := p.Generate(context.Background(),
			Generation{URL: "http://" + host + "/", Body: []byte("{}"), Timeout: 5 * time.Second,
				Read: func([]byte) error { return nil }})
		return err
	}
	chunks := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
	cases := []struct {
		name        string
		connections [][]string
		asks        []func(*Prober, string) error
		fails       int // which of asks, from 1; 0: none
		want        string
	}{
		{"one_for_all", [][]string{{ok, chunks, "HTTP/1.1 100 Continue\r\n\r\n" + ok}}, []func(*Prober, string) error{get, get, get}, 0, "0 GET, 0 GET, 0 GET"},
		{"ended_by_a_header", [][]string{{"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"}, {ok}},
			[]func(*Prober, string) error{get, get}, 0, "0 GET, 1 GET"},
		{"ended_by_the_next_question", [][]string{{ok}, {ok}}, []func(*Prober, string) error{get, get}, 0, "0 GET, 0 GET, 1 GET"},
		{"asked_again_once_only", [][]string{{ok}, {}}, []func(*Prober, string) error{get, get}, 2, "0 GET, 0 GET, 1 GET"},
		{"a_fresh_one_is_not_asked_again", [][]string{{}}, []func(*Prober, string) error{get}, 1, "0 GET"},
		{"a_generation_is_not_asked_again", [][]string{{ok}, {ok}}, []func(*Prober, string) error{get, post}, 2, "0 GET, 0 POST"},
		{"bytes_that_nobody_asked_for", [][]string{{ok + "HTTP/1.1 408 Request Timeout\r\n\r\n"}, {ok}}, []func(*Prober, string) error{get, get}, 0, "0 GET, 1 GET"},
		{"a_generation_on_the_probe's", [][]string{{ok, ok}}, []func(*Prober, string) error{get, post}, 0, "0 GET, 0 POST"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s, p := script(t, c.connections...), New()
			defer p.Close()
			for i, ask := range c.asks {
				if err := ask(p, s.host); (err != nil) != (i+1 == c.fails) {
					t.Errorf("question %d: %v", i+1, err)
				}
			}
			if got := s.requests(); got != c.want {
				t.Errorf("requests by connection: %s; want %s", got, c.want)
			}
		})
	}
}

// TestALateEndOfAnIdleConnection: an engine that closed its side, or sent something, while the
// connection was idle is asked over a fresh one, a generation too.
func TestALateEndOfAnIdleConnection(t *testing.T) {
	for name, last := range map[string]string{"closed": "",
		"a_timeout_told": "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			closed := make(chan struct{})
			go func() {
				for n := 0; ; n++ {
					c, err := l.Accept()
					if err != nil {
						return
					}
					heard(c)
					_, _ = io.WriteString(c, ok)
					if n == 0 {
						_, _ = io.WriteString(c, last)
						c.Close()
						close(closed)
					}
				}
			}()
			p := New()
			defer p.Close()
			url := "http://" + l.Addr().String() + "/health"
			if err := p.Probe(t.Context(), check(url, 5*time.Second)); err != nil {
				t.Fatal(err)
			}
			<-closed
			if out, err := p.Generate(t.Context(),
				Generation{URL: url, Timeout: 5 * time.Second, Read: func([]byte) error {
					return nil
				}}); out != Generated {
				t.Errorf("outcome %d, %v", out, err)
			}
		})
	}
}

// TestAnAnswerThatBegan: a kept connection that is cut in the middle of an answer is a cut
// connection, and no second request.
func TestAnAnswerThatBegan(t *testing.T) {
	requests := make(chan int, 8)
	host := strings.TrimSuffix(strings.TrimPrefix(raw(t, func(c net.Conn) {
		for n, answer := range []string{ok, "HTTP/1.1 2"} {
			heard(c)
			requests <- n
			_, _ = io.WriteString(c, answer)
		}
		c.Close()
	}), "http://"), "/health")
	p := New()
	defer p.Close()
	for i, reason := range []string{"", ReasonReset} {
		err := p.Probe(t.Context(), check("http://"+host+"/health", 5*time.Second))
		if got := p.Reason(err); got != reason {
			t.Errorf("question %d: reason %q, %v", i, got, err)
		}
	}
	if n := len(requests); n != 2 {
		t.Errorf("%d requests, want 2", n)
	}
}

// TestACancelledProbe returns at once, and leaves no connection.
func TestACancelledProbe(t *testing.T) {
	arrived := make(chan struct{})
	url := raw(t, func(c net.Conn) { heard(c); close(arrived) })
	p := New()
	defer p.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	err := p.Probe(ctx, check(url, time.Minute))
	if !errors.Is(err, context.Canceled) || p.Reason(err) != ReasonOther {
		t.Errorf("%v (%s)", err, p.Reason(err))
	}
	if n := p.dialed.count(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}

// TestPathsThatNeedEscapes are sent as the library sends them.
func TestPathsThatNeedEscapes(t *testing.T) {
	asked := make(chan string, 1)
	url := engine(t, func(w http.ResponseWriter, r *http.Request) { asked <- r.RequestURI })
	p := New()
	defer p.Close()
	for path, want := range map[string]string{"/a?b=c&d": "/a?b=c&d", "/a b": "/a%20b", "/é": "/%C3%A9", "/a#b": "/a",
		"": "/", "/%41": "/%41"} {
		c := check(url, 5*time.Second)
		c.Path = path
		if err := p.Probe(t.Context(), c); err != nil {
			t.Fatalf("%q: %v", path, err)
		}
		if got := <-asked; got != want {
			t.Errorf("%q was asked for as %q, want %q", path, got, want)
		}
	}
	c := check(url, 5*time.Second)
	for _, path := range []string{"/a\r\nX: y", "/%zz"} {
		c.Path = path
		if err := p.Probe(t.Context(), c); err == nil {
			t.Errorf("%q was asked for", path)
		}
	}
}

// TestTLS: an external engine may speak TLS.
func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "ok") }))
	defer srv.Close()
	p := New()
	defer p.Close()
	p.client.Transport.(*http.Transport).TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig
	if err := p.Probe(t.Context(), Check{Kind: HTTP, Host: srv.URL, Path: "/health", Status: 200,
		Timeout: 5 * time.Second}); err != nil {
		t.Error(err)
	}
	if body, err := p.Get(t.Context(), srv.URL+"/props", 10); err != nil || string(body) != "ok" {
		t.Errorf("Get = %q, %v", body, err)
	}
	p.CloseIdle(srv.URL)
	if n := settled(p, 0); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}
