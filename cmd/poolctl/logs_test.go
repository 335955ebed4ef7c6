package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// journal writes a program that stands in for journalctl: it prints its arguments, one a line, and
// does what a test adds.
func journal(t *testing.T, more string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "journalctl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\nprintf '%s\\n' \"$@\"\n"+more+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func (h *host) logs(ctx context.Context, journalctl string, args ...string) result {
	var out, errOut syncBuffer
	a := &app{out: &out, err: &errOut, now: time.Now, journalctl: journalctl}
	code := run(ctx, a, append([]string{"--socket", h.socket, "logs"}, args...))
	return result{code, out.String(), errOut.String()}
}

func TestLogs(t *testing.T) {
	h := newHost(t)
	h.fill()
	program := journal(t, "")
	cases := []struct{ name, line, want string }{
		{"the_newest_lines", "gemma", "--no-pager --lines=100 POOL_ID=gemma"},
		{"all", "gemma -n all", "--no-pager --lines=all POOL_ID=gemma"},
		{"follow", "-f gemma", "--no-pager --lines=100 --follow POOL_ID=gemma"},
		{"further_arguments_go_on_as_they_are", "gemma -- --since today -f", "--no-pager --lines=100 POOL_ID=gemma --since today -f"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			r := h.logs(t.Context(), program, strings.Fields(c.line)...)
			if got := strings.ReplaceAll(strings.TrimSpace(r.out), "\n", " "); r.code != exitOK || got != c.want ||
				r.errOut != "" {
				t.Errorf("%d journalctl %s, want %s; %s", r.code, got, c.want, r.errOut)
			}
		})
	}
	t.Run("wrong_use", func(t *testing.T) {
		for _, line := range []string{"", "gemma phi", "-- gemma phi", "--since=today gemma", "../x"} {
			if r := h.logs(t.Context(), program, strings.Fields(line)...); r.code != exitUsage || r.out != "" {
				t.Errorf("logs %s: exit status %d, %s", line, r.code, r.out)
			}
		}
	})
	t.Run("a_pool_of_former_times", func(t *testing.T) {
		r := h.logs(t.Context(), program, "gema")
		if r.code != exitOK || !strings.Contains(r.out, "POOL_ID=gema\n") ||
			!strings.Contains(r.errOut, "Did you mean gemma?") {
			t.Errorf("%d %s%s", r.code, r.out, r.errOut)
		}
	})
	t.Run("the_daemon_need_not_run", func(t *testing.T) {
		down := &host{t: t, socket: filepath.Join(t.TempDir(), "none")}
		if r := down.logs(t.Context(), program, "gemma"); r.code != exitOK || r.errOut != "" {
			t.Errorf("%d %s", r.code, r.errOut)
		}
	})
	t.Run("no_journalctl", func(t *testing.T) {
		if r := h.logs(t.Context(), "no-such-journalctl", "gemma"); r.code != exitFailed ||
			!strings.Contains(r.errOut, "journalctl is not installed") {
			t.Errorf("%d %s", r.code, r.errOut)
		}
	})
	t.Run("journalctl_fails", func(t *testing.T) {
		r := h.logs(t.Context(), journal(t, "exit 1"), "gemma")
		if r.code != exitFailed || !strings.Contains(r.errOut, "journalctl: exit status 1") {
			t.Errorf("%d %s", r.code, r.errOut)
		}
	})
}

func TestFollowEndsWithCtrlC(t *testing.T) {
	h := newHost(t)
	h.fill()
	ctx, cancel := context.WithCancel(t.Context())
	var out, errOut syncBuffer
	a := &app{out: &out, err: &errOut, now: time.Now, journalctl: journal(t, "exec sleep 100")}
	ended := make(chan int, 1)
	go func() { ended <- run(ctx, a, []string{"--socket", h.socket, "logs", "-f", "gemma"}) }()
	for !strings.Contains(out.String(), "POOL_ID=gemma") {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if code := <-ended; code != exitOK || errOut.String() != "" {
		t.Errorf("%d %s", code, errOut.String())
	}
}
