package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// helper is the other end: a script of connections, each a function that plays it. A connection
// past the script is refused.
type helper struct {
	t        *testing.T
	script   []func(h *helper, conn net.Conn)
	dials    []time.Duration // since the start
	start    time.Time
	requests []wire.Request
}

// dial hands the client one end of a pipe and plays the next connection on the other.
func (h *helper) dial(context.Context) (net.Conn, error) {
	h.dials = append(h.dials, time.Since(h.start))
	if len(h.script) == 0 {
		return nil, &net.OpError{Op: "dial", Net: "unix", Err: syscall.ECONNREFUSED}
	}
	play := h.script[0]
	h.script = h.script[1:]
	mine, theirs := net.Pipe()
	go func() {
		defer mine.Close()
		line, err := bufio.NewReader(mine).ReadBytes('\n')
		if err != nil {
			return // the client gave up first
		}
		var r wire.Request
		if err := json.Unmarshal(line, &r); err != nil {
			h.t.Errorf("the request is no JSON: %s", line)
		}
		h.requests = append(h.requests, r)
		play(h, mine)
	}()
	return theirs, nil
}

// say writes one line.
func say(conn net.Conn, r wire.Reply) {
	r.Version = wire.Version
	line, _ := json.Marshal(r)
	_, _ = conn.Write(append(line, '\n'))
}

func snapshot(session string) wire.Reply {
	return wire.Reply{Snapshot: &nvml.Snapshot{Session: session, Driver: nvml.Driver{Version: "550.54.14"}}}
}

// raw is a connection that writes some bytes and stays open.
func raw(s string) func(*helper, net.Conn) {
	return func(_ *helper, conn net.Conn) {
		_, _ = conn.Write([]byte(s))
		time.Sleep(time.Hour)
	}
}

// follow runs Follow against the script for so long and returns what it delivered, each as one
// word: a session, an event's kind, or a problem's kind.
func follow(t *testing.T, long time.Duration, options Options, script ...func(*helper, net.Conn)) (*helper, []string,
	[]nvml.Update) {
	var words []string
	var updates []nvml.Update
	h := &helper{t: t, script: script}
	synctest.Test(t, func(t *testing.T) {
		h.start = time.Now()
		c := New(options)
		c.dial = h.dial
		ctx, cancel := context.WithTimeout(t.Context(), long)
		defer cancel()
		err := c.Follow(ctx, func(u nvml.Update) {
			updates = append(updates, u)
			switch {
			case u.Snapshot != nil:
				words = append(words, u.Snapshot.Session)
			case u.Event != nil:
				words = append(words, string(u.Event.Kind))
			case u.Stale != nil:
				words = append(words, string(u.Stale.Problem.Kind))
			}
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Follow = %v", err)
		}
		if late := time.Since(h.start) - long; late != 0 {
			t.Errorf("Follow returned %s after its context ended", late)
		}
		// The script's goroutines sleep for an hour at most; synctest.Test fails if one of Follow's
		// is left after them.
		dials, said := len(h.dials), len(updates)
		time.Sleep(2 * time.Hour)
		if len(h.dials) != dials || len(updates) != said {
			t.Error("something of Follow went on after it had returned")
		}
	})
	return h, words, updates
}

func TestFollow(t *testing.T) {
	long := strings.Repeat("x", wire.MaxLine+64<<10)
	every := func(d time.Duration, n int, r wire.Reply) func(*helper, net.Conn) {
		return func(_ *helper, conn net.Conn) {
			for range n {
				say(conn, r)
				time.Sleep(d)
			}
		}
	}
	for _, c := range []struct {
		name   string
		long   time.Duration
		script []func(*helper, net.Conn)
		want   string
		text   string // of the last problem; "" where none is looked at
	}{
		{"facts_and_events_in_order", 5 * time.Second, []func(*helper, net.Conn){func(_ *helper, conn net.Conn) {
			say(conn, snapshot("a"))
			say(conn, wire.Reply{Event: &nvml.Event{Kind: nvml.EventXid, Code: 79}})
			say(conn, snapshot("b"))
			time.Sleep(time.Hour)
		}}, "no-helper a xid b", ""},
		{"no_listener", 500 * time.Millisecond, nil, "no-helper no-helper", "nothing listens"},
		{"accepted_and_silent_as_for_a_dead_helper", 11 * time.Second, []func(*helper, net.Conn){raw("")}, "no-helper no-helper", "no message from pool-gpu for 10s"},
		{"silent_after_facts", 11 * time.Second, []func(*helper, net.Conn){func(_ *helper, conn net.Conn) {
			say(conn, snapshot("a"))
			time.Sleep(time.Hour)
		}}, "no-helper a no-helper", "no message from pool-gpu for 10s"},
		{"one_byte_a_second_is_silence", 11 * time.Second, []func(*helper, net.Conn){func(_ *helper, conn net.Conn) {
			for range 100 {
				if _, err := conn.Write([]byte(" ")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}}, "no-helper no-helper", "no message from pool-gpu"},
		{"a_heartbeat_is_enough", 39 * time.Second, []func(*helper, net.Conn){every(9*time.Second, 5, wire.Reply{})}, "no-helper", ""},
		{"dies_and_comes_back", 31 * time.Second, []func(*helper, net.Conn){every(5*time.Second, 4, snapshot("a")), every(5*time.Second, 4, snapshot("b"))},
			"no-helper a a a a no-helper b b b", "closed the connection"},
		{"dies_within_a_line", time.Second, []func(*helper, net.Conn){func(_ *helper, conn net.Conn) { _, _ = conn.Write([]byte(`{"pool_gpu":1,"snap`)) }},
			"no-helper no-helper", "closed the connection"},
		{"stalls_and_recovers", 10 * time.Second, []func(*helper, net.Conn){func(_ *helper, conn net.Conn) {
			say(conn, snapshot("a"))
			since := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			say(conn, wire.Reply{Stalled: &wire.Stalled{Call: "nvmlDeviceGetMemoryInfo_v2", Since: since}})
			say(conn, wire.Reply{Stalled: &wire.Stalled{Call: "nvmlDeviceGetMemoryInfo_v2", Since: since}})
			time.Sleep(time.Second)
			say(conn, snapshot("a"))
			time.Sleep(time.Hour)
		}}, "no-helper a hung a", "nvmlDeviceGetMemoryInfo_v2 has not returned since 2026-01-02T03:04:05Z"},
		{"stalls_and_gives_way_to_a_new_process", 20 * time.Second, []func(*helper, net.Conn){
			every(7*time.Second, 2, wire.Reply{Stalled: &wire.Stalled{Call: "nvmlInit_v2"}}), every(7*time.Second, 2, snapshot("b"))},
			"no-helper hung b", "nvmlInit_v2"},
		{"stalls_and_falls_silent", 12 * time.Second, []func(*helper, net.Conn){func(_ *helper, conn net.Conn) {
			say(conn, wire.Reply{Stalled: &wire.Stalled{Call: "nvmlInit_v2"}})
			time.Sleep(time.Hour)
		}}, "no-helper hung no-helper", "nothing listens"},
		{"another_version", time.Second, []func(*helper, net.Conn){raw(`{"pool_gpu":2,"snapshot":7}` + "\n")}, "no-helper no-helper", "protocol version 2, this program has 1"},
		{"its_own_error", time.Second, []func(*helper, net.Conn){raw(`{"pool_gpu":1,"error":"version 1 is not spoken here"}` + "\n")}, "no-helper no-helper", "not spoken here"},
		{"no_json", time.Second, []func(*helper, net.Conn){raw("HTTP/1.1 400 Bad Request\r\n\r\n")}, "no-helper no-helper", "not a JSON object"},
		{"json_of_another", time.Second, []func(*helper, net.Conn){raw(`{"jsonrpc":"2.0"}` + "\n")}, "no-helper no-helper", "the peer is not pool-gpu"},
		{"json_of_another_shape", time.Second, []func(*helper, net.Conn){raw(`{"pool_gpu":1,"snapshot":{"devices":{}}}` + "\n")}, "no-helper no-helper", "does not match the protocol"},
		{"a_line_without_end", time.Second, []func(*helper, net.Conn){raw(long)}, "no-helper no-helper", "longer than"},
		{"a_line_of_a_newer_helper", time.Second, []func(*helper, net.Conn){raw(`{"pool_gpu":1,"weather":"fine"}` + "\n")}, "no-helper", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, words, updates := follow(t, c.long, Options{}, c.script...)
			if got := strings.Join(words, " "); got != c.want {
				t.Errorf("delivered %q, want %q", got, c.want)
			}
			var last nvml.Problem
			for _, u := range updates {
				if u.Stale != nil {
					last = u.Stale.Problem
				}
			}
			if !strings.Contains(last.Text, c.text) {
				t.Errorf("the last problem is %q, want %q", last.Text, c.text)
			}
		})
	}
}

// TestFirst: something is said before anything is dialled, and facts are called stale since they
// were fresh last.
func TestFirst(t *testing.T) {
	h, _, updates := follow(t, 20*time.Second, Options{Interval: 3 * time.Second}, func(_ *helper, conn net.Conn) {
		time.Sleep(2 * time.Second)
		say(conn, snapshot("a"))
		time.Sleep(time.Hour)
	})
	if s := updates[0].Stale; s == nil || !s.Since.Equal(h.start) {
		t.Errorf("the first update is %+v", updates[0])
	}
	if s := updates[len(updates)-1].Stale; s == nil || s.Since.Sub(h.start) != 2*time.Second {
		t.Errorf("the last update is %+v", updates[len(updates)-1])
	}
	if r := h.requests[0]; r.Version != wire.Version || r.Op != wire.OpFollow || r.IntervalMS != 3000 {
		t.Errorf("the request is %+v", r)
	}
}

// TestLog: each change of what is known is one line, and what goes on is none.
func TestLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewTextHandler(&out,
		&slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == "since" {
				return slog.Attr{}
			}
			return a
		}}))
	follow(t, 10*time.Minute, Options{Socket: "/gpu.sock", Log: log}, func(_ *helper, conn net.Conn) {
		say(conn, snapshot("a"))
		say(conn, snapshot("a"))
	})
	want := `level=INFO msg="GPU facts are fresh" driver=550.54.14 gpus=0
level=WARN msg="GPU facts are not refreshed" reason="pool-gpu closed the connection"
level=WARN msg="GPU facts are not refreshed" reason="nothing listens on pool-gpu's socket /gpu.sock; has pool-gpu.socket failed?"
`
	if out.String() != want {
		t.Errorf("the log is\n%swant\n%s", out.String(), want)
	}
}

// TestBackoff: one second, doubling to one minute, each at most a tenth longer; at once after a
// connection that had lived.
func TestBackoff(t *testing.T) {
	lives := func(_ *helper, conn net.Conn) {
		for range 4 {
			say(conn, snapshot("a"))
			time.Sleep(4 * time.Second)
		}
	}
	dies := func(_ *helper, conn net.Conn) { say(conn, snapshot("a")) }
	h, _, _ := follow(t, 10*time.Minute, Options{}, lives, dies, dies)
	var waits []time.Duration
	for i := 1; i < len(h.dials); i++ {
		waits = append(waits, h.dials[i]-h.dials[i-1])
	}
	if waits[0] != 16*time.Second { // the life of the first connection, and no wait
		t.Errorf("after a connection that had lived: %s", waits[0]-16*time.Second)
	}
	want := time.Second
	for i, wait := range waits[1:] {
		if wait < want || wait > want*2 || want == lastWait && wait > lastWait*11/10 {
			t.Errorf("wait %d is %s, want %s or a little more; all: %v", i+1, wait, want, waits)
		}
		want = min(2*want, lastWait)
	}
	if len(waits) < 14 || slices.Max(waits[1:]) < lastWait {
		t.Errorf("the waits do not grow to %s, or stop: %v", lastWait, waits)
	}
}
