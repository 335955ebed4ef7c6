package probe

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/health"

	"github.com/pool-managerd/pool-managerd/units/engine/bounds"
)

func TestBody(t *testing.T) {
	url := engine(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{\"status\": \"loading\"}") })
	p := New()
	defer p.Close()
	for pattern, reason := range map[string]string{`"status":\s*"(ok|loading)"`: "", `"ok"`: ReasonBody,
		`^\{.*\}$`: ""} {
		c := check(url, 5*time.Second)
		c.Body = regexp.MustCompile(pattern)
		if err := p.Probe(t.Context(), c); p.Reason(err) != reason {
			t.Errorf("%s: %v, want reason %q", pattern, err, reason)
		} else if err != nil && !strings.Contains(err.Error(), "loading") {
			t.Errorf("%s: %v does not show the body", pattern, err)
		}
	}
}

// TestBodyIsMatchedToABound: an answer without an end is not read to it, and what lies behind the
// bound matches nothing.
func TestBodyIsMatchedToABound(t *testing.T) {
	url := engine(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "near", strings.Repeat(" ", bounds.HealthBody), "far")
	})
	p := New()
	defer p.Close()
	for word, reason := range map[string]string{"near": "", "far": ReasonBody} {
		c := check(url, 5*time.Second)
		c.Body = regexp.MustCompile(word)
		if err := p.Probe(t.Context(), c); p.Reason(err) != reason {
			t.Errorf("%s: %v, want reason %q", word, err, reason)
		}
	}
}

func TestTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := New()
	defer p.Close()
	ask := func(host string) string {
		return p.Reason(p.Probe(t.Context(), Check{Kind: TCP, Host: host, Timeout: 5 * time.Second}))
	}
	if got := ask(l.Addr().String()); got != "" {
		t.Errorf("a port that listens: reason %q", got)
	}
	l.Close()
	if got := ask(l.Addr().String()); got != ReasonRefused {
		t.Errorf("a closed port: reason %q", got)
	}
	if got := ask("192.0.2.1:80"); got != ReasonTCP {
		t.Errorf("another host: reason %q", got)
	}
	if n := p.dialed.count(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}

// TestNoneHeld: an engine that counts idle connections has none of ours, whatever it was asked.
func TestNoneHeld(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "{}") }))
	defer srv.Close()
	over, _ := grpcServer(t, func(*health.Server) {})
	for name, ask := range map[string]func(*Prober) error{
		"http": func(p *Prober) error {
			c := check(srv.URL, 5*time.Second)
			c.Close = true
			return p.Probe(t.Context(), c)
		},
		"generation": func(p *Prober) error {
			_, err := p.Generate(t.Context(),
				Generation{URL: srv.URL, Timeout: 5 * time.Second, Close: true, Read: func([]byte) error {
					return nil
				}})
			return err
		},
		"grpc": func(p *Prober) error {
			return p.Probe(t.Context(), Check{Kind: GRPC, Host: over, Timeout: 5 * time.Second, Close: true})
		},
		"tcp": func(p *Prober) error {
			return p.Probe(t.Context(), Check{Kind: TCP, Host: over, Timeout: 5 * time.Second})
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := New()
			defer p.Close()
			if err := ask(p); err != nil {
				t.Fatal(err)
			}
			if n := settled(p, 0); n != 0 {
				t.Errorf("%d connections are open", n)
			}
		})
	}
}

// settled waits until so many connections are open, and returns how many are: the transport closes
// them from goroutines of its own.
func settled(p *Prober, want int) int {
	for deadline := time.Now().Add(10 * time.Second); p.dialed.count() != want && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	return p.dialed.count()
}

func TestGenerate(t *testing.T) {
	answering := func(status int, body string) string {
		return engine(t, func(w http.ResponseWriter, r *http.Request) {
			asked, _ := io.ReadAll(r.Body)
			if r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json" ||
				string(asked) != `{"n_predict":1}` {
				http.Error(w, "no request for a generation", http.StatusInternalServerError)
				return
			}
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		})
	}
	refused := strings.Replace(raw(t, func(c net.Conn) { heard(c); c.Close() }), "/health", "/completion", 1)
	cases := []struct {
		name, url string
		want      Outcome
		says      string
	}{
		{"a_token", answering(200, "token"), Generated, ""},
		{"no_token", answering(200, "{}"), Wrong, `no token ("{}")`},
		{"too_many_requests", answering(429, "overloaded"), Overloaded, "status 429"},
		{"no_slot", answering(503, "no slot is free"), Overloaded, "no slot is free"},
		{"an_error", answering(500, "CUDA error"), Wrong, "CUDA error"},
		{"a_failed_model_server", answering(424, "failed"), Wrong, "status 424"},
		{"another_kind_of_model", answering(501, "embeddings only"), Unfit, "embeddings only"},
		{"a_key_is_wanted", answering(401, "key"), Unfit, "status 401"},
		{"no_such_path", answering(404, "not found"), Unfit, "status 404"},
		{"no_answer", raw(t, func(net.Conn) {}), Unanswered, "no answer within 200ms"},
		{"cut", refused, Wrong, "closed the connection"},
	}
	p := New()
	defer p.Close()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			timeout := 5 * time.Second
			if c.want == Unanswered {
				timeout = 200 * time.Millisecond
			}
			got, err := p.Generate(t.Context(),
				Generation{URL: c.url, Body: []byte(`{"n_predict":1}`), Timeout: timeout,
					Read: func(body []byte) error {
						if string(body) != "token" {
							return errors.New("no token")
						}
						return nil
					}})
			if got != c.want || (err == nil) != (c.want == Generated) {
				t.Fatalf("outcome %d, %v; want %d", got, err, c.want)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || p.Reason(err) != ReasonGeneration) {
				t.Errorf("%q (%s) does not say %q", err, p.Reason(err), c.says)
			}
		})
	}
}

// TestAHangingRequestDelaysNoOther: requests of one engine that get no answer leave room for its
// probe, and when they are over one connection is left.
func TestAHangingRequestDelaysNoOther(t *testing.T) {
	arrived, answer := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			close(arrived)
			<-answer
		}
	}))
	defer srv.Close()
	p := New()
	defer p.Close()
	generated := make(chan Outcome, 1)
	go func() {
		out, _ := p.Generate(t.Context(), Generation{URL: srv.URL, Timeout: time.Minute, Read: func([]byte) error {
			return nil
		}})
		generated <- out
	}()
	<-arrived
	for range 3 {
		if err := p.Probe(t.Context(), check(srv.URL, 10*time.Second)); err != nil {
			t.Errorf("beside a generation: %v", err)
		}
	}
	close(answer)
	if out := <-generated; out != Generated {
		t.Errorf("outcome %d", out)
	}
	if n := settled(p, 1); n != 1 {
		t.Errorf("%d connections are kept, want one", n)
	}
}
