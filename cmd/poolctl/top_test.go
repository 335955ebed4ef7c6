package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

// topHost is a host for the live view: pools on GPUs, one with hostile text.
func topHost(t *testing.T) *host {
	t.Helper()
	h := newHost(t)
	h.fillGPUs()
	p := registrytest.Gemma()
	p.ID, p.ModelID = "hostile", "file:/srv/\x1b]0;title\a\x1b[2J.gguf"
	p.LastError = registry.Fail(registry.CodeEngineCrashed, "\x1b[31mred\u202e", "")
	h.reg.Put(p)
	return h
}

// TestTopNeedsATerminal: a pipe gets an error that names what prints lines.
func TestTopNeedsATerminal(t *testing.T) {
	h := topHost(t)
	r := h.run("top")
	if r.code != exitFailed || !strings.Contains(r.errOut, "needs a terminal") ||
		!strings.Contains(r.errOut, "poolctl list --watch") || r.out != "" {
		t.Errorf("%d %q %s", r.code, r.out, r.errOut)
	}
	if r := h.run("top", "-o", "json"); r.code != exitUsage || !strings.Contains(r.errOut, "list --watch -o json") {
		t.Errorf("-o json: %d %s", r.code, r.errOut)
	}
}

// TestTopInATerminal types into the live view and compares what the terminal shows.
func TestTopInATerminal(t *testing.T) {
	h := topHost(t)
	s := newScreen(t, 80, 24, "xterm-256color")
	s.startTop(h)
	s.waitFor("qwen")
	s.waitFor("EVENTS")
	s.golden("top-80x24")

	s.keys("Down", "Down", "Right")
	s.waitFor("    r1  ")
	s.keys("Enter")
	s.waitFor("Replica r0")
	s.golden("top-detail")
	s.keys("Escape")
	s.waitFor("?:keys")
	s.keys("/", "p", "h", "i", "Enter")
	s.waitFor("only with: phi")
	s.golden("top-filter")
	s.keys("Escape")
	s.waitFor("qwen")

	s.keys("Home", "D")
	s.waitFor("drain gemma? (y/n)")
	s.keys("n")
	s.waitFor("nothing was done")
	s.keys("D", "y")
	s.waitFor("drain of gemma is in progress")
	s.waitFor("draining") // the next poll

	s.resize(200, 50)
	s.waitFor("MEMORY BY POOL")
	s.waitFor("file:/srv/models/phi.gguf")
	s.golden("top-200x50")
	s.resize(80, 24)
	s.waitUntil("the small screen again", func(text string) bool {
		return strings.Contains(text, "qwen") && !strings.Contains(text, "ENGINE ")
	})
	s.keys("?")
	s.waitFor("any key: back")
	s.keys("q", "q")
	s.waitFor("shell>")
	s.wantRestored(0)
}

// TestTopRestoresTheTerminal: however it ends, the terminal is as before, with what it showed.
func TestTopRestoresTheTerminal(t *testing.T) {
	h := topHost(t)
	for _, c := range []struct {
		name, kind string
		end        func(s *screen)
	}{
		{"ctrl-c", "xterm-256color", func(s *screen) { s.keys("C-c") }},
		{"sigterm", "xterm-256color", func(s *screen) { s.signal(syscall.SIGTERM) }},
		{"sigint", "xterm-256color", func(s *screen) { s.signal(syscall.SIGINT) }},
		{"q_on_a_linux_console", "linux", func(s *screen) { s.keys("q") }},
		{"q_on_a_vt100", "vt100", func(s *screen) { s.keys("q") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScreen(t, 80, 24, c.kind)
			s.startTop(h)
			s.waitFor("qwen")
			c.end(s)
			s.waitFor("shell>")
			s.wantRestored(0)
		})
	}
}

// TestTopIsSuspended: Ctrl-Z gives the terminal back to the shell, and fg draws the view again.
func TestTopIsSuspended(t *testing.T) {
	h := topHost(t)
	s := newScreen(t, 80, 24, "xterm-256color")
	s.startTop(h)
	s.waitFor("qwen")
	s.keys("C-z")
	s.waitFor("Stopped")
	s.keys("fg", "Enter")
	s.waitFor("qwen")
	s.keys("Down") // keys reach it again
	s.keys("q")
	s.waitFor("Stopped")
	s.wantRestored(0)
}

// TestTopWithoutColours: NO_COLOR and a VT100 get bold and reverse, and no colour.
func TestTopWithoutColours(t *testing.T) {
	h := topHost(t)
	for _, c := range []struct {
		name, kind string
		env        []string
		colours    bool
	}{
		{"colours", "xterm-256color", nil, true},
		{"linux_console", "linux", nil, true},
		{"no_color", "xterm-256color", []string{"NO_COLOR=1"}, false},
		{"vt100", "vt100", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newScreen(t, 80, 24, c.kind, c.env...)
			s.startTop(h)
			s.waitFor(" in trouble") // of the title: an event may name a pool before the table does
			shown := s.captured("-e")
			if got := strings.Contains(shown, "\x1b[32m") || strings.Contains(shown, "\x1b[31m"); got != c.colours {
				t.Errorf("colours: %t, want %t:\n%q", got, c.colours, shown)
			}
			if !strings.Contains(shown, "\x1b[7m") && !strings.Contains(shown, ";7m") {
				t.Errorf("nothing is in reverse:\n%q", shown)
			}
		})
	}
}

// TestTopWithoutTheManager: while it does not answer the last picture stays, marked as old, and no
// action is sent; when it answers again, the mark is gone.
func TestTopWithoutTheManager(t *testing.T) {
	h := topHost(t)
	s := newScreen(t, 100, 24, "xterm-256color")
	s.startTop(h)
	s.waitFor("qwen")
	away := h.socket + ".away"
	if err := os.Rename(h.socket, away); err != nil {
		t.Fatal(err)
	}
	s.waitFor("OLD: as of")
	s.waitFor("there is no socket")
	s.keys("D")
	s.waitFor("nothing was done")
	if !strings.Contains(s.captured(), "qwen") {
		t.Errorf("the last picture is gone:\n%s", s.captured())
	}
	if err := os.Rename(away, h.socket); err != nil {
		t.Fatal(err)
	}
	s.waitUntil("no mark", func(text string) bool { return !strings.Contains(text, "OLD") })
	if asked := h.operators.asked; asked != "" {
		t.Errorf("%q was asked for", asked)
	}
}

// TestTopShowsEvents: what happens is shown without a key, and a crash within a moment.
func TestTopShowsEvents(t *testing.T) {
	h := topHost(t)
	s := newScreen(t, 80, 24, "xterm-256color")
	s.startTop(h)
	s.waitFor("qwen")
	p := registrytest.Gemma()
	p.State, p.Ready = registry.StateBackoff, false
	h.reg.Put(p)
	s.waitFor("backoff")
	s.waitFor("gemma  not ready")
}

// TestTopShowsTheLog: the detail page has the lines of the pool's log, made safe, from journalctl
// with the matches of logs, which ends with the page.
func TestTopShowsTheLog(t *testing.T) {
	h := topHost(t)
	dir := t.TempDir()
	journal := filepath.Join(dir, "journalctl")
	script := "#!/bin/sh\necho $$ >" + dir + "/pid\necho \"$@\" >" + dir + "/args\n" +
		"printf 'loading\\n\\033]0;title\\a\\033[2Jready\\n'\nexec sleep 600\n"
	if err := os.WriteFile(journal, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s := newScreen(t, 80, 24, "xterm-256color", "POOLCTL_JOURNALCTL="+journal, "POOLCTL_ADMIN="+h.socket)
	s.start("top")
	s.waitFor("qwen")
	s.keys("Enter")
	s.waitFor("loading")
	s.waitFor("?]0;title?")
	args, err := os.ReadFile(filepath.Join(dir, "args"))
	want := "--follow --lines=100 _SYSTEMD_UNIT=pool-engine@gemma.r0.service"
	if err != nil || !strings.Contains(string(args), want) {
		t.Errorf("journalctl %s %v", args, err)
	}
	s.keys("Escape")
	s.waitFor("?:keys")
	pid := readPID(t, filepath.Join(dir, "pid"))
	eventually(t, "journalctl ends with the page", func() bool { return syscall.Kill(pid, 0) != nil })
}

// TestTopPage: the page shows what the terminal shows, and names each key.
func TestTopPage(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "top.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := os.ReadFile(filepath.Join("testdata", "top-80x24.golden"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(shown)) {
		if !strings.Contains(string(page), line) {
			t.Errorf("docs/top.md does not show the line of testdata/top-80x24.golden:\n%s", line)
		}
	}
	for _, key := range []string{"`a`", "`g`", "`<`", "`>`", "`r`", "`/`", "`D`", "`S`", "`L`", "`X`", "`?`", "`q`"} {
		if !strings.Contains(string(page), key) {
			t.Errorf("docs/top.md does not name the key %s", key)
		}
	}
}

// golden holds what the terminal shows to a file.
func (s *screen) golden(name string) {
	s.t.Helper()
	shown := regexp.MustCompile(`\d\d:\d\d:\d\d`).ReplaceAllString(s.settled(), "12:34:56")
	golden.File(s.t, filepath.Join("testdata", name+".golden"), shown, *update)
}

// eventually waits for something that happens soon, for as long as a busy machine may need.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not seen: %s", what)
		}
	}
}
