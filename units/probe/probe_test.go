package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// engine answers /health as the handler says.
func engine(t testing.TB, h http.HandlerFunc) string {
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return srv.URL + "/health"
}

// check is the question for status 200 of a URL.
func check(url string, timeout time.Duration) Check {
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
	return Check{Kind: HTTP, Host: host, Path: "/" + path, Status: 200, Timeout: timeout}
}

// heard reads a request's first bytes.
func heard(c net.Conn) { _, _ = c.Read(make([]byte, 512)) }

// raw is a port whose connections are served without any HTTP.
func raw(t *testing.T, serve func(net.Conn)) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
		}
	}()
	return "http://" + l.Addr().String() + "/health"
}

func TestProbe(t *testing.T) {
	closed := raw(t, func(net.Conn) {})
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return "http://" + l.Addr().String() + "/health"
	}()
	cases := []struct {
		name   string
		url    string
		reason string
		says   string
	}{
		{"healthy", engine(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"ok"}`) }), "", ""},
		{"loading", engine(t, func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "Loading model", http.StatusServiceUnavailable)
		}), ReasonStatus, `status 503 ("Loading model"), want 200`},
		{"redirect_is_not_healthy", engine(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
		}), ReasonStatus, "status 302"},
		{"nothing_listens", free, ReasonRefused, "nothing listens"},
		{"no_answer", closed, ReasonTimeout, "no answer within 200ms"},
		{"connection_cut", raw(t, func(c net.Conn) { heard(c); c.Close() }), ReasonReset, "closed the connection"},
		{"not_http", raw(t, func(c net.Conn) { heard(c); io.WriteString(c, "hello\r\n\r\n"); c.Close() }), ReasonHTTP, "malformed HTTP"},
		{"an_answer_cut_off", raw(t, func(c net.Conn) {
			heard(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
			c.Close()
		}), ReasonReset, "closed the connection"},
		{"an_answer_that_stops", raw(t, func(c net.Conn) {
			heard(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
		}), ReasonTimeout, "status 200, and an answer that did not end within 200ms"},
		{"endless_header", raw(t, func(c net.Conn) {
			heard(c)
			io.WriteString(c, "HTTP/1.1 200 OK\r\n"+strings.Repeat("X: y\r\n", 10_000)+"\r\n")
		}), ReasonHTTP, "not HTTP"},
		{"another_host", "http://192.0.2.1:80/health", ReasonOther, "not on the loopback"},
	}
	p := New()
	defer p.Close()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			timeout := 10 * time.Second
			if c.reason == ReasonTimeout {
				timeout = 200 * time.Millisecond
			}
			err := p.Probe(t.Context(), check(c.url, timeout))
			if got := p.Reason(err); got != c.reason {
				t.Fatalf("reason %q (%v), want %q", got, err, c.reason)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
		})
	}
}

func TestGet(t *testing.T) {
	p := New()
	defer p.Close()
	t.Run("body_within_the_limit", func(t *testing.T) {
		url := engine(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "abc") })
		body, err := p.Get(t.Context(), url, 3)
		if err != nil || string(body) != "abc" {
			t.Errorf("Get = %q, %v", body, err)
		}
	})
	t.Run("endless_body_is_refused", func(t *testing.T) {
		url := engine(t, func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		})
		if _, err := p.Get(t.Context(), url, 1<<16); !errors.Is(err, ErrTooLong) || !strings.Contains(err.Error(),
			"longer than") {
			t.Errorf("Get of an endless body: %v", err)
		}
	})
	t.Run("ended_context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.Get(ctx, raw(t, func(net.Conn) {}), 10); err == nil {
			t.Error("no error although the context had ended")
		}
	})
}

func TestOneConnectionPerEngine(t *testing.T) {
	var conns atomic.Int32
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "ok")
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	p := New()
	defer p.Close()
	for range 20 {
		if err := p.Probe(t.Context(), check(srv.URL, time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections for 20 probes, want 1", n)
	}
}

// TestCloseIdle: before an engine is stopped nothing of ours keeps it waiting, and another engine's
// connection stays.
func TestCloseIdle(t *testing.T) {
	ended := make(chan string, 8)
	serve := func(name string) string {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "ok")
		}))
		srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				ended <- name
			}
		}
		srv.Start()
		t.Cleanup(srv.Close)
		return srv.URL
	}
	one, other := serve("one"), serve("other")
	p := New()
	defer p.Close()
	for _, url := range []string{one, other} {
		if err := p.Probe(t.Context(), check(url, time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	p.CloseIdle(strings.TrimPrefix(one, "http://"))
	if got := <-ended; got != "one" {
		t.Errorf("the connection to %s ended", got)
	}
	p.dialed.mu.Lock()
	left := len(p.dialed.open)
	p.dialed.mu.Unlock()
	if left != 1 {
		t.Errorf("%d engines have connections, want 1", left)
	}
	for _, url := range []string{one, other} {
		if err := p.Probe(t.Context(), check(url, time.Second)); err != nil {
			t.Errorf("after it: %v", err)
		}
	}
}

func TestProxySettingsAreNotRead(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:3128")
	t.Setenv("http_proxy", "http://192.0.2.1:3128")
	if transport := New().client.Transport.(*http.Transport); transport.Proxy != nil {
		t.Error("the transport has a proxy function")
	}
}

func BenchmarkProbe(b *testing.B) {
	url := engine(b, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"status":"ok"}`) })
	p := New()
	defer p.Close()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Probe(b.Context(), check(url, time.Second)); err != nil {
			b.Fatal(err)
		}
	}
}
