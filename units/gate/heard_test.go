package gate

import (
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// quietTLS is a server of TLS that closes a connection without a word when the handshake fails, as
// Python's asyncio does.
func quietTLS(t *testing.T) *httptest.Server {
	s := httptest.NewUnstartedServer(http.NotFoundHandler())
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				first := make([]byte, 1)
				if _, err := io.ReadFull(conn, first); err != nil || first[0] != 22 {
					return
				}
				tlsConn := tls.Server(preceded{conn, first}, s.TLS)
				_ = tlsConn.Handshake()
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); s.Close() })
	return &httptest.Server{URL: "https://" + l.Addr().String()}
}

// preceded is a connection of which the first byte was read.
type preceded struct {
	net.Conn
	first []byte
}

func (p preceded) Read(b []byte) (int, error) {
	if p.first[0] != 0 && len(b) > 0 {
		b[0], p.first[0] = p.first[0], 0
		return 1, nil
	}
	return p.Conn.Read(b)
}

// raw answers each connection with a text after a while, and may leave it open for longer.
func raw(t *testing.T, text string, wait time.Duration, open ...time.Duration) *httptest.Server {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Read(make([]byte, 1024))
				time.Sleep(wait)
				fmt.Fprint(conn, text)
				for _, longer := range open {
					time.Sleep(longer)
				}
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return &httptest.Server{URL: "http://" + l.Addr().String()}
}

// TestHeard: what is known of an engine that answers, and not as one that is ready or loads.
func TestHeard(t *testing.T) {
	serve := func(f http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(f)
		t.Cleanup(s.Close)
		return s
	}
	status := func(code int) *httptest.Server {
		return serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	goTLS := httptest.NewUnstartedServer(http.NotFoundHandler())
	goTLS.Config.ErrorLog = log.New(io.Discard, "", 0)
	goTLS.StartTLS()
	t.Cleanup(goTLS.Close)
	for _, c := range []struct {
		name   string
		server *httptest.Server
		body   string
		want   exit.Heard
		text   string
	}{
		{"loading", status(503), "", exit.Nothing, "status 503 at /health"},
		{"loading_as_fastapi_without_a_model", status(500), "", exit.Nothing, "status 500 at /health"},
		{"another_path", status(404), "", exit.NotFound, "status 404 at /health"},
		{"a_key", status(401), "", exit.Unauthorized, "status 401 at /health"},
		{"forbidden", status(403), "", exit.Unauthorized, "status 403 at /health"},
		{"no_get", status(405), "", exit.OtherStatus, "status 405 at /health"},
		{"another_success", status(204), "", exit.OtherStatus, "status 204 at /health"},
		{"a_redirect", serve(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/health/", http.StatusPermanentRedirect)
		}), "", exit.Redirect, "status 308 at /health, a redirect to /health/"},
		{"another_body", status(200), "b2s", exit.OtherBody, "a body that does not match"},
		{"tls_that_answers_in_plain_text", goTLS, "", exit.TLS, "speaks TLS"},
		{"tls_that_closes", quietTLS(t), "", exit.TLS, "speaks TLS"},
		{"tls_that_sends_an_alert", raw(t, "\x15\x03\x01\x00\x02\x02\x46", 0), "", exit.TLS, "speaks TLS"},
		{"nginx", raw(t, "HTTP/1.1 400 Bad Request\r\n\r\nThe plain HTTP request was sent to HTTPS port", 0), "", exit.TLS, "speaks TLS"},
		{"without_an_end", raw(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", 0, askTimeout+time.Second),
			"", exit.Unfinished, "status 200 at /health, and an answer that did not end within 2s"},
		{"shorter_than_it_says", raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", 0), "", exit.Unfinished,
			"status 200 at /health, and an answer that ended before it was whole"},
		{"without_an_end_of_its_header", raw(t, "HTTP/1.1 200 OK\r\nContent-Le", 0), "", exit.Unfinished, "before it was whole"},
		{"header_that_is_none", raw(t, "HTTP/1.1 200 OK\r\nwhat\r\n\r\n", 0), "", exit.Unfinished, "is not valid: malformed HTTP"},
		{"another_protocol", raw(t, "SSH-2.0-OpenSSH_9.2\r\n", 0), "", exit.NotHTTP, `not HTTP ("SSH-2.0-OpenSSH_9.2\r\n")`},
		{"one_line_without_an_end", raw(t, "hello", 0), "", exit.NotHTTP, `not HTTP ("hello")`},
		{"nothing", raw(t, "", 0), "", exit.NotHTTP, "closes connections without an answer"},
		{"late", raw(t, "", askTimeout+time.Second), "", exit.Mute, "are accepted, and not answered within 2s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address := strings.TrimPrefix(strings.TrimPrefix(c.server.URL, "https://"), "http://")
			at, err := parseEndpoint("http://"+address+"/health", "", c.body)
			if err != nil {
				t.Fatal(err)
			}
			got := at.ask(os.Getuid(), 200)
			if got.answer == Healthy || !got.reached || got.what != c.want || !strings.Contains(got.text, c.text) {
				t.Errorf("heard %+v, want %d and %q", got, c.want, c.text)
			}
		})
	}
	t.Run("no_listener_is_not_reached", func(t *testing.T) {
		at := endpoint{scheme: "http", host: "127.0.0.1", port: freePort(t), path: "/"}
		if got := at.ask(os.Getuid(), 200); got != (heard{}) {
			t.Errorf("heard %+v", got)
		}
	})
}

// TestStallsWithWhatItHeard: the exit status and the line of a stalled load have what was heard.
func TestStallsWithWhatItHeard(t *testing.T) {
	t.Run("404", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "answers 404")
		var log strings.Builder
		o.Log = newLog(&log)
		if got := decide(t, o); got != exit.With(exit.Stalled, exit.NotFound) ||
			!strings.HasSuffix(log.String(), "; seen: status 404 at /health\n") {
			t.Errorf("exit %d, log %q", got, &log)
		}
	})
	t.Run("an_access_log_is_no_progress", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "access")
		o, _ := start(t, freePort(t), "answers 404", accessVariable+"="+path)
		o.Invocation = "1"
		if got := decideWith(t, o, program(t, "exec tail -n +1 -F "+path+" 2>/dev/null")); got !=
			exit.With(exit.Stalled, exit.NotFound) {
			t.Errorf("exit %d", got)
		}
	})
	t.Run("deadline", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "burn 10s")
		o.Deadline = 3 * time.Second
		if got := decide(t, o); got != exit.Late {
			t.Errorf("exit %d, want %d", got, exit.Late)
		}
	})
	t.Run("elsewhere", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "idle")
		o.URL = fmt.Sprintf("http://127.0.0.1:%d/health", freePort(t))
		var log strings.Builder
		o.Log = newLog(&log)
		if got := decide(t, o); got != exit.With(exit.Stalled, exit.Elsewhere) ||
			!strings.Contains(log.String(), "; seen: the engine listens on ") {
			t.Errorf("exit %d, log %q", got, &log)
		}
	})
}

// TestListensElsewhere: an engine that is silent where it is asked is explained by where it
// listens, with a network and without; one that answers, and one that listens nowhere, are not.
func TestListensElsewhere(t *testing.T) {
	self := os.Getuid()
	serveUnix(t)
	onPort := endpoint{scheme: "http", host: "127.0.0.1", port: freePort(t), path: "/"}
	onSocket := endpoint{scheme: "http", host: "127.0.0.1", unix: "/run/pool/engine.sock", path: "/"}
	for _, c := range []struct {
		name string
		at   endpoint
		of   heard
		uid  int
		want exit.Heard
		end  string
	}{
		{"not_on_its_port", onPort, heard{}, self, exit.Elsewhere, ", not on " + onPort.name()},
		{"not_on_its_socket", onSocket, heard{}, self, exit.Elsewhere, ", not on /run/pool/engine.sock"},
		{"cannot_be_connected_to", onSocket, heard{reached: true}, self, exit.Elsewhere, "engine.sock"},
		{"listens_nowhere", onPort, heard{}, 61201, exit.Nothing, ""},
		{"answers", onPort, heard{answer: Loading, text: "status 503 at /"}, self, exit.Nothing, "status 503 at /"},
		{"says_that_it_loads", onPort, heard{answer: Loading, reached: true}, self, exit.Nothing, ""},
		{"does_not_answer", onPort, heard{what: exit.Mute, text: "mute", reached: true}, self, exit.Mute, "mute"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.of.or(c.at, c.uid, false); got.what != c.want || !strings.HasSuffix(got.text, c.end) {
				t.Errorf("heard %+v, want %d and %q", got, c.want, c.end)
			}
		})
	}
}
