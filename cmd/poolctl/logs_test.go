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
	// lines are the matches for a pool of one replica; more holds in each group.
	lines := func(id, more string) string {
		first, second := "pool-engine@"+id+".r0.service", "pool-engine@"+id+".r0b.service"
		each := func(field string) string { return field + "=" + first + " " + field + "=" + second }
		return each("_SYSTEMD_UNIT") + more + " + " + each("UNIT") + " _PID=1" + more + " + " +
			each("OBJECT_SYSTEMD_UNIT") +
			" _UID=0" + more + " + " + each("COREDUMP_UNIT") + " _SYSTEMD_SLICE=system-systemd\\x2dcoredump.slice" +
			more +
			" + _SYSTEMD_UNIT=pool-managerd.service POOL_ID=" + id + more
	}
	cases := []struct{ name, line, want string }{
		{"the_newest_lines", "gemma", "--no-pager --lines=100 " + lines("gemma", "")},
		{"all", "gemma -n all", "--no-pager --lines=all " + lines("gemma", "")},
		{"follow", "-f gemma", "--no-pager --lines=100 --follow " + lines("gemma", "")},
		{"further_options_come_before_the_matches", "gemma -- --since today -f", "--no-pager --lines=100 --since today -f " + lines("gemma", "")},
		{"further_terms_hold_for_every_line", "gemma -- REPLICA_ID=r0 -o json PRIORITY=3", "--no-pager --lines=100 -o json " +
			lines("gemma", " REPLICA_ID=r0 PRIORITY=3")},
		{"a_value_that_looks_like_a_term", "gemma -- --grep A=b -g C=d", "--no-pager --lines=100 --grep A=b -g C=d " + lines("gemma", "")},
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
	// The journal's units of the pool are added, and no other's, whatever is in it.
	t.Run("replicas_that_are_gone", func(t *testing.T) {
		program := journal(t, `[ "$2" = --field=_SYSTEMD_UNIT ] || exit 0
			printf '%s\n' 'pool-engine@gemma.r7.service' 'pool-engine@gemma2.r0.service' 'pool-engine@gemma.r7.service' \
				'pool-engine@gemma.rx.service' 'user@1000.service' '+' '-f' '_UID=0'`)
		r := h.logs(t.Context(), program, "gemma")
		// OBJECT_SYSTEMD_UNIT holds the name, too
		if n := strings.Count(r.out, "_SYSTEMD_UNIT=pool-engine@"); n != 3+3 ||
			!strings.Contains(r.out, "\nUNIT=pool-engine@gemma.r7.service\n") || strings.Contains(r.out, "gemma2") {
			t.Errorf("%d units in\n%s", n, r.out)
		}
	})
	t.Run("wrong_use", func(t *testing.T) {
		for _, line := range []string{"", "gemma phi", "-- gemma phi", "--since=today gemma", "../x", "gemma -- A=b + C=d",
			"gemma -- /usr/bin/x"} {
			if r := h.logs(t.Context(), program, strings.Fields(line)...); r.code != exitUsage || r.out != "" {
				t.Errorf("logs %s: exit status %d, %s", line, r.code, r.out)
			}
		}
	})
	t.Run("a_pool_of_former_times", func(t *testing.T) {
		r := h.logs(t.Context(), program, "gema")
		if r.code != exitOK || !strings.Contains(r.out, "POOL_ID=gema\n") ||
			!strings.Contains(r.out, "pool-engine@gema.r0.service") ||
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
		r := h.logs(t.Context(), journal(t, `[ "$2" != --field=_SYSTEMD_UNIT ] || exit 0; exit 1`), "gemma")
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
	a := &app{out: &out, err: &errOut, now: time.Now, journalctl: journal(t,
		`[ "$2" != --field=_SYSTEMD_UNIT ] || exit 0; exec sleep 100`)}
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
