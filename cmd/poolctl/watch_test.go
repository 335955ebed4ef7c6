package main

import (
	"context"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// watching runs a command in the background and gives its output.
type watching struct {
	t           *testing.T
	out, errOut *syncBuffer
	cancel      context.CancelFunc
	ended       chan int
}

func watch(t *testing.T, clear bool, args ...string) *watching {
	t.Helper()
	return watchOn(t, &app{clear: clear}, args...)
}

// watchOn is the same on a host.
func watchOn(t *testing.T, a *app, args ...string) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watching{t: t, out: &syncBuffer{}, errOut: &syncBuffer{}, cancel: cancel, ended: make(chan int, 1)}
	a.out, a.err, a.every = w.out, w.errOut, time.Millisecond
	a.now = func() time.Time { return clock.UTC() }
	go func() { w.ended <- run(ctx, a, args) }()
	t.Cleanup(func() { cancel() })
	return w
}

// until waits for the output to have a text so often.
func (w *watching) until(text string, times int) {
	w.t.Helper()
	for range 10_000 {
		if strings.Count(w.out.String()+w.errOut.String(), text) >= times {
			return
		}
		time.Sleep(time.Millisecond)
	}
	w.t.Fatalf("%q did not come %d times:\n%s%s", text, times, w.out, w.errOut)
}

// end presses Ctrl-C.
func (w *watching) end() string {
	w.t.Helper()
	w.cancel()
	if code := <-w.ended; code != exitOK {
		w.t.Errorf("exit status %d after Ctrl-C: %s", code, w.errOut)
	}
	return w.out.String()
}

func single(state registry.State, heartbeat int64) registry.Pool {
	return registry.Aggregate(registry.Pool{ID: "gemma", Wanted: true, Replicas: []registry.Replica{
		{ID: "r0", State: state, Live: true, Ready: state == registry.StateReady,
			LastHeartbeat: time.UnixMilli(heartbeat)}}})
}

func TestWatchPrintsChanges(t *testing.T) {
	for _, command := range []string{"list", "status gemma"} {
		t.Run(strings.Fields(command)[0], func(t *testing.T) {
			h := newHost(t)
			h.reg.Put(single(registry.StateStarting, 1))
			w := watch(t, false, append(strings.Fields(command), "--watch", "--socket", h.socket)...)
			w.until("starting", 1)
			for beat := range 20 { // a heartbeat is no change
				h.reg.Put(single(registry.StateStarting, int64(beat+2)))
				time.Sleep(time.Millisecond)
			}
			h.reg.Put(single(registry.StateReady, 99))
			w.until("# ", 2)
			if got := w.end(); strings.Count(got, "# 2023-11-14T22:14:20Z\n") != 2 {
				t.Errorf("two states were printed otherwise than twice:\n%s", got)
			}
		})
	}
}

func TestWatchInJSONIsOneLineAChange(t *testing.T) {
	h := newHost(t)
	h.reg.Put(single(registry.StateStarting, 1))
	w := watch(t, true, "list", "--watch", "-o", "json", "--socket", h.socket)
	w.until(`"state":"starting"`, 1)
	h.reg.Put(single(registry.StateReady, 2))
	w.until(`"state":"ready"`, 1)
	got := w.end()
	if n := strings.Count(got, "\n"); n != 2 || !strings.HasPrefix(got, "{") || strings.Contains(got, "\x1b") {
		t.Errorf("%d lines:\n%q", n, got)
	}
}

func TestWatchOnATerminalStartsOverEachTime(t *testing.T) {
	h := newHost(t)
	h.reg.Put(single(registry.StateReady, 1))
	w := watch(t, true, "list", "--watch", "--socket", h.socket)
	w.until("\x1b[H\x1b[2JPOOL", 3)
	w.end()
}

// TestWatchSurvivesTheDaemon: it says once that the daemon is gone, and goes on when it is back.
func TestWatchSurvivesTheDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "api.sock")
	w := watch(t, false, "list", "--watch", "--socket", socket)
	w.until("there is no socket", 1)
	h := newHost(t)
	h.fill()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go forward(l, h.socket)
	w.until("llama3-8b", 1)
	if n := strings.Count(w.errOut.String(), "there is no socket"); n != 1 {
		t.Errorf("said %d times that the daemon is gone", n)
	}
	w.end()
}

// forward lets a second path lead to the host's socket.
func forward(l net.Listener, to string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		d, err := net.Dial("unix", to)
		if err != nil {
			c.Close()
			continue
		}
		go func() { defer d.Close(); _, _ = io.Copy(d, c) }()
		go func() { defer c.Close(); _, _ = io.Copy(c, d) }()
	}
}

func TestWatchEndsWithAPoolThatIsGone(t *testing.T) {
	h := newHost(t)
	h.reg.Put(single(registry.StateReady, 1))
	w := watch(t, false, "status", "gemma", "--watch", "--socket", h.socket)
	w.until("ready", 1)
	h.reg.Remove("gemma")
	if code := <-w.ended; code != exitNoPool || !strings.Contains(w.errOut.String(), "pool gemma not found") {
		t.Errorf("exit status %d: %s", code, w.errOut)
	}
}
