package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// TestProgressOfAWait: on a terminal one line with a bar or a spinner is written over; elsewhere
// there is a line for each state, and now and then.
func TestProgressOfAWait(t *testing.T) {
	total, rate := int64(100), int64(1)
	steps := []wire.Pool{
		{ID: "a\x1b", State: "staging", Staging: &wire.Staging{Bytes: 50, Total: &total, Rate: &rate}},
		{ID: "a\x1b", State: "starting", Replicas: []wire.Replica{{State: "starting", Reason: "the engine loads\a its model"}}},
		{ID: "a\x1b", State: "starting", Replicas: []wire.Replica{{State: "starting", Reason: "the engine loads its model"}}},
	}
	for _, c := range []struct {
		terminal bool
		columns  int
		want     string
	}{
		{false, 0, "a?: staging: 50 %, 1 B/s, 50 s left\na?: starting: the engine loads? its model\n"},
		{true, 0, "\r[############............] a?: staging: 50 %, 1 B/s, 50 s left (0 s)" +
			"\r| a?: starting: the engine loads? its model (6 s)" + strings.Repeat(" ", 19) +
			"\r/ a?: starting: the engine loads its model (12 s)" + "\n"},
		{true, 10, "\r[########\r| a?: sta\r/ a?: sta\n"},
	} {
		var out bytes.Buffer
		now := clock
		b := newBar(&out, c.terminal, func() time.Time { return now })
		b.columns = c.columns
		for _, p := range steps {
			b.pool(p)
			now = now.Add(6 * time.Second)
		}
		b.end()
		if got := out.String(); got != c.want {
			t.Errorf("terminal %v, %d columns:\n%q, want\n%q", c.terminal, c.columns, got, c.want)
		}
	}
}

// TestWaitInterrupted: the request goes on, and the command says so; with --all too.
func TestWaitInterrupted(t *testing.T) {
	for _, line := range []string{"drain gemma --wait", "drain --all --wait", "resume gemma --wait",
		"reload gemma --wait"} {
		t.Run(strings.Fields(line)[0], func(t *testing.T) {
			h := newHost(t)
			if line == "drain --all --wait" {
				h.reg.Put(registry.Pool{ID: "gemma", State: registry.StateReady, Ready: true})
			} else {
				h.fill()
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			h.operators.ends = func(*registry.Pool) { cancel() } // the pool stays as it is
			got := poolctl(ctx, append(strings.Fields(line), "--socket", h.socket)...)
			if got.code != exitFailed || !strings.Contains(got.errOut, " goes on. poolctl ") ||
				strings.Contains(got.errOut, "context canceled") {
				t.Errorf("exit status %d\n%s%s", got.code, got.out, got.errOut)
			}
		})
	}
}
