package gate

import (
	"bytes"
	"io"
	"net"
	"os"
	"strconv"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/pool-managerd/pool-managerd/test/mutate"
)

// TestGRPC asks a real server.
func TestGRPC(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s, h := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(s, h)
	h.SetServingStatus("down", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	defer func() {
		s.Stop()
		<-done
	}()
	port := strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
	for url, want := range map[string]Answer{
		"grpc://127.0.0.1:" + port:           Healthy,
		"grpc://127.0.0.1:" + port + "/":     Healthy,
		"grpc://127.0.0.1:" + port + "/down": Loading,
		"tcp://127.0.0.1:" + port:            Healthy,
	} {
		at, err := parseEndpoint(url, "", "")
		if err != nil {
			t.Fatal(err)
		}
		if got := at.ask(os.Getuid(), 200); got.answer != want {
			t.Errorf("%s: answer %+v, want %d", url, got, want)
		}
	}
	at, err := parseEndpoint("grpc://127.0.0.1:"+port+"/nobody", "", "")
	if err != nil {
		t.Fatal(err)
	}
	if got := at.ask(os.Getuid(), 200); got.answer == Healthy {
		t.Error("a service that is not there is healthy")
	}
}

// FuzzReadMessage: whatever a server sends, the reader ends with its bytes, and a message is what
// DATA frames of it held.
func FuzzReadMessage(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, frameSettings, 0, 0, nil), frameData, flagEndStream, stream,
		[]byte{0, 0, 0, 0, 2, 8, 1}))
	f.Add(appendFrame(nil, frameData, flagEndStream|flagPadded, stream, []byte{9, 1}))
	f.Add([]byte{255, 255, 255, 0, 0, 0, 0, 0, 1})
	f.Fuzz(mutate.Many(func(t *testing.T, sent []byte) {
		message, err := readMessage(bytes.NewReader(sent), io.Discard)
		if err != nil && message != nil {
			t.Errorf("% x with error %v", message, err)
		}
		if len(message) > len(sent) {
			t.Errorf("%d bytes out of %d", len(message), len(sent))
		}
	}))
}
