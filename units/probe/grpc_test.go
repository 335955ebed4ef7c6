package probe

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// grpcServer is a real server of the health protocol.
func grpcServer(t *testing.T, set func(*health.Server)) (host string, served *grpc.Server) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	if set != nil {
		grpc_health_v1.RegisterHealthServer(s, h)
		set(h)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	return l.Addr().String(), s
}

func TestGRPC(t *testing.T) {
	healthy, _ := grpcServer(t, func(h *health.Server) {
		h.SetServingStatus("llm", grpc_health_v1.HealthCheckResponse_SERVING)
		h.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	})
	sick, _ := grpcServer(t, func(h *health.Server) { h.Shutdown() })
	other, _ := grpcServer(t, nil)
	// It hears the client out: a server that closes before may have its answer overtaken by the
	// reset, which is another reason.
	plain := strings.TrimSuffix(strings.TrimPrefix(raw(t, func(c net.Conn) {
		heard(c)
		_, _ = io.WriteString(c, "HTTP/1.1 505 HTTP Version Not Supported\r\nContent-Length: 0\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
		c.Close()
	}), "http://"), "/health")
	silent := strings.TrimSuffix(strings.TrimPrefix(raw(t, func(net.Conn) {}), "http://"), "/health")
	cases := []struct {
		name, host, service string
		reason, says        string
	}{
		{"the_server_serves", healthy, "", "", ""},
		{"a_service_serves", healthy, "llm", "", ""},
		{"a_service_does_not", healthy, "down", ReasonGRPC, "NOT_SERVING"},
		{"a_service_that_is_not_there", healthy, "nobody", ReasonGRPC, `gRPC status "5"`},
		{"the_server_shuts_down", sick, "", ReasonGRPC, "NOT_SERVING"},
		{"a_server_without_the_protocol", other, "", ReasonGRPC, `gRPC status "12"`},
		{"a_server_of_http_1", plain, "", ReasonGRPC, "not gRPC"},
		{"no_answer", silent, "", ReasonTimeout, "no answer within"},
	}
	p := New()
	defer p.Close()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			timeout := 5 * time.Second
			if c.reason == ReasonTimeout {
				timeout = 200 * time.Millisecond
			}
			err := p.Probe(t.Context(), Check{Kind: GRPC, Host: c.host, Service: c.service, Timeout: timeout})
			if got := p.Reason(err); got != c.reason {
				t.Fatalf("reason %q (%v), want %q", got, err, c.reason)
			}
			if err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %q does not say %q", err, c.says)
			}
		})
	}
}

// TestGRPCShutdown: one connection serves all probes, none is left where that is asked for, and
// what is left can be closed, so that a server that ends gracefully is not held up.
func TestGRPCShutdown(t *testing.T) {
	host, s := grpcServer(t, func(*health.Server) {})
	p := New()
	defer p.Close()
	open := func() int {
		p.dialed.mu.Lock()
		defer p.dialed.mu.Unlock()
		return len(p.dialed.open[host])
	}
	for range 5 {
		if err := p.Probe(t.Context(), Check{Kind: GRPC, Host: host, Timeout: 5 * time.Second}); err != nil {
			t.Fatal(err)
		}
	}
	if n := open(); n != 1 {
		t.Errorf("%d connections after five probes, want 1", n)
	}
	p.CloseIdle(host)
	if n := open(); n != 0 {
		t.Errorf("%d connections are left after they were closed", n)
	}
	s.GracefulStop()
}
