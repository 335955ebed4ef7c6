package client_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// answering listens on a real socket and gives each connection that answer; an empty one is
// silence.
func answering(t *testing.T, answer string) (socket string, asked chan wire.Request) {
	socket = filepath.Join(t.TempDir(), "gpu.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	asked = make(chan wire.Request, 1)
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			line, err := bufio.NewReader(conn).ReadBytes('\n')
			var r wire.Request
			if err == nil && json.Unmarshal(line, &r) == nil {
				asked <- r
			}
			if answer == "" {
				_, _ = conn.Read(make([]byte, 1)) // until the other side gives up
			}
			_, _ = conn.Write([]byte(answer))
			conn.Close()
		}
	}()
	return socket, asked
}

func TestAsk(t *testing.T) {
	reserve := wire.Request{Op: wire.OpReserve, Needs: map[string]uint64{"GPU-1": 1 << 30}}
	for _, c := range []struct {
		name, answer string
		req          wire.Request
		granted      bool
		short        int
		noAnswer     bool
		text         string // of the error
	}{
		{"granted", `{"pool_gpu":1,"granted":true}`, reserve, true, 0, false, ""},
		{"refused", `{"pool_gpu":1,"short":[{"device":"GPU-1","need_bytes":5,"free_bytes":3}]}`, reserve, false, 1, false, ""},
		{"wrong_question", `{"pool_gpu":1,"error":"no device GPU-1; there are: GPU-2"}`, reserve, false, 0, false, "pool-gpu: no device GPU-1"},
		{"neither_granted_nor_refused", `{"pool_gpu":1}`, reserve, false, 0, true, "neither granted nor refused"},
		{"hung", `{"pool_gpu":1,"stalled":{"call":"nvmlInit_v2","since":"2026-01-02T03:04:05Z"}}`, reserve, false, 0, true, "nvmlInit_v2 has not returned since 2026-01-02T03:04:05Z"},
		{"another_version", `{"pool_gpu":9,"granted":true}`, reserve, false, 0, true, "version 9"},
		{"garbage", "hello", reserve, false, 0, true, "not a JSON"},
		{"closed", "\x00", wire.Request{Op: wire.OpSnapshot}, false, 0, true, ""},
		{"no_snapshot", `{"pool_gpu":1}`, wire.Request{Op: wire.OpSnapshot}, false, 0, true, "no snapshot"},
		{"release_needs_no_word", `{"pool_gpu":1}`, wire.Request{Op: wire.OpRelease}, false, 0, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			socket, asked := answering(t, c.answer+"\n")
			reply, err := client.Ask(t.Context(), socket, c.req)
			if r := <-asked; r.Version != wire.Version || r.Op != c.req.Op || len(r.Needs) != len(c.req.Needs) {
				t.Errorf("asked %+v", r)
			}
			if reply.Granted != c.granted || len(reply.Short) != c.short {
				t.Errorf("reply = %+v", reply)
			}
			if errors.Is(err, client.ErrNoAnswer) != c.noAnswer || (err != nil) != (c.noAnswer || c.text != "") {
				t.Errorf("err = %v", err)
			}
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("err = %v, want %q", err, c.text)
			}
			var wrong *client.AnswerError
			if errors.As(err, &wrong) != (c.name == "wrong_question") {
				t.Errorf("err = %#v", err)
			}
		})
	}
}

// TestAskIsBounded: a helper that accepts and says nothing costs the time that the caller gave, and
// little more.
func TestAskIsBounded(t *testing.T) {
	socket, _ := answering(t, "")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := client.New(client.Options{Socket: socket}).Ask(ctx, wire.Request{Op: wire.OpSnapshot})
	if !errors.Is(err, client.ErrNoAnswer) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("err = %v", err)
	}
}

func TestAskNobody(t *testing.T) {
	_, err := client.Ask(t.Context(), filepath.Join(t.TempDir(), "none.sock"), wire.Request{Op: wire.OpSnapshot})
	if !errors.Is(err, client.ErrNoAnswer) {
		t.Errorf("err = %v", err)
	}
}

// TestAskTooMuch: a question that no helper would read is not sent.
func TestAskTooMuch(t *testing.T) {
	socket, _ := answering(t, `{"pool_gpu":1,"granted":true}`+"\n")
	_, err := client.Ask(t.Context(), socket, wire.Request{Op: wire.OpReserve, Unit: strings.Repeat("x", wire.MaxLine)})
	if !errors.Is(err, client.ErrNoAnswer) || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("err = %v", err)
	}
}
