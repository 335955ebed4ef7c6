package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long a test waits for what should happen at once.
const patience = 60 * time.Second

// TestMain lets this program be poolctl itself, in the terminal or the shell of a test, with a
// fixed time.
func TestMain(m *testing.M) {
	args, line := os.Args[1:], os.Getenv("POOLCTL_ARGS")
	switch {
	case os.Getenv("POOLCTL_TYPED") != "":
	case line == "":
		os.Exit(m.Run())
	default:
		if err := json.Unmarshal([]byte(line), &args); err != nil {
			panic(err)
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	a := &app{in: os.Stdin, out: os.Stdout, err: os.Stderr, now: func() time.Time { return clock },
		every: 100 * time.Millisecond, journalctl: os.Getenv("POOLCTL_JOURNALCTL"), systemctl: "systemctl"}
	if admin := os.Getenv("POOLCTL_ADMIN"); admin != "" {
		a.root = filepath.Dir(admin) + "/root"
		if err := linked(admin, a.root); err != nil {
			panic(err)
		}
	}
	os.Exit(run(ctx, a, args))
}

// linked puts a socket where a manager has it below a root.
func linked(socket, root string) error {
	dir := filepath.Join(root, filepath.Dir(defaultAdminSocket))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return os.Symlink(socket, filepath.Join(root, defaultAdminSocket))
}

// screen is a real terminal with a shell in it.
type screen struct {
	t   *testing.T
	dir string
}

// newScreen starts a terminal of a size and a kind (TERM) by tmux(1).
func newScreen(t *testing.T, width, height int, kind string, env ...string) *screen {
	t.Helper()
	if _, err := exec.LookPath("tmux"); err != nil {
		t.Skip("no tmux on this host: what a terminal shows is not tried here")
	}
	dir, err := os.MkdirTemp("", "tmux") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	s := &screen{t, dir}
	t.Cleanup(func() {
		_ = exec.Command("tmux", "-S", s.socket(), "kill-server").Run() // it may be gone
		s.remove()
	})
	conf := "set -g status off\nset -sg escape-time 0\nset -g default-terminal \"tmux-256color\"\n"
	if err := os.WriteFile(filepath.Join(dir, "conf"), []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	shell := append([]string{"env", "-i", "PATH=" + os.Getenv("PATH"), "HOME=" + dir, "TERM=" + kind,
		"LC_ALL=C.UTF-8",
		"TZ=UTC", "PS1=shell> ", "TMPDIR=" + os.TempDir()}, env...)
	args := append([]string{"new-session", "-d", "-c", dir, "-x", strconv.Itoa(width), "-y", strconv.Itoa(height)},
		shell...)
	s.tmux(append(args, "bash", "--norc", "--noprofile", "-i")...)
	s.waitFor("shell>")
	return s
}

// remove deletes the folder of the terminal. The shell in it, and what that started, end after
// tmux has answered, and may write there until then.
func (s *screen) remove() {
	deadline := time.Now().Add(10 * time.Second)
	for {
		err := os.RemoveAll(s.dir)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.t.Error(err)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (s *screen) socket() string { return filepath.Join(s.dir, "s") }

// tmux runs a command of tmux, and returns what it printed.
func (s *screen) tmux(args ...string) string {
	s.t.Helper()
	args = append([]string{"-S", s.socket(), "-f", filepath.Join(s.dir, "conf")}, args...)
	out, err := exec.Command("tmux", args...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("tmux %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// startTop starts the live view of a host, by a name that is the same in each run.
func (s *screen) startTop(h *host) {
	s.t.Helper()
	if err := os.Symlink(h.socket, filepath.Join(s.dir, "api.sock")); err != nil {
		s.t.Fatal(err)
	}
	s.start("top", "--socket", "api.sock")
}

// start types a command line of poolctl into the shell.
func (s *screen) start(args ...string) {
	s.t.Helper()
	self, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	line, err := json.Marshal(args)
	if err != nil {
		s.t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\necho $$ >%s/pid\nPOOLCTL_ARGS='%s' exec %s\n", s.dir, line, self)
	if err := os.WriteFile(filepath.Join(s.dir, "poolctl"), []byte(script), 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.keys("~/poolctl", "Enter")
}

func (s *screen) keys(keys ...string) {
	s.t.Helper()
	for _, k := range keys { // one by one: Escape and what follows are two keys
		s.tmux("send-keys", k)
	}
}

func (s *screen) resize(width, height int) {
	s.t.Helper()
	s.tmux("resize-window", "-x", strconv.Itoa(width), "-y", strconv.Itoa(height))
}

// signal sends a signal to poolctl.
func (s *screen) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(readPID(s.t, filepath.Join(s.dir, "pid")), sig); err != nil {
		s.t.Fatal(err)
	}
}

func readPID(t *testing.T, path string) int {
	t.Helper()
	body, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(body)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// captured is what the terminal shows.
func (s *screen) captured(options ...string) string {
	s.t.Helper()
	return s.tmux(append([]string{"capture-pane", "-p"}, options...)...)
}

// settled is what it shows when nothing changes any longer.
func (s *screen) settled() string {
	s.t.Helper()
	last := s.captured()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		time.Sleep(300 * time.Millisecond)
		now := s.captured()
		if now == last {
			return now
		}
		last = now
	}
	s.t.Fatalf("the screen does not come to rest:\n%s", last)
	return ""
}

func (s *screen) waitFor(text string) {
	s.t.Helper()
	s.waitUntil(text, func(shown string) bool { return strings.Contains(shown, text) })
}

func (s *screen) waitUntil(what string, is func(shown string) bool) {
	s.t.Helper()
	shown := ""
	for deadline := time.Now().Add(patience); ; time.Sleep(30 * time.Millisecond) {
		if shown = s.captured(); is(shown) {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("not shown: %s\n%s", what, shown)
		}
	}
}

// wantRestored checks that a command has ended with a status, that the shell reads lines, and that
// the cursor is seen.
func (s *screen) wantRestored(code int) {
	s.t.Helper()
	s.keys(`echo "status $? $(stty -a | grep -c -e -icanon -e -isig -e '-echo ')"`, "Enter")
	s.waitFor(fmt.Sprintf("status %d 0", code))
	cursor := strings.TrimSpace(s.tmux("display-message", "-p", "#{cursor_flag} #{alternate_on} #{wrap_flag}"))
	if cursor != "1 0 1" {
		s.t.Errorf("cursor, second screen, wrap: %s, want 1 0 1", cursor)
	}
}
