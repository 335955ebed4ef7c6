//go:build machine

package systemd

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// heard are the messages that FollowJournal delivered.
type heard struct {
	t       *testing.T
	mu      sync.Mutex
	entries []JournalEntry
	done    chan error
	cancel  context.CancelFunc
}

// listen follows until the test ends.
func (f *follower) listen(t *testing.T, q JournalQuery) *heard {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h := &heard{t: t, done: make(chan error, 1), cancel: cancel}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.done <- f.FollowJournal(ctx, q, func(e JournalEntry) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.entries = append(h.entries, e)
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return h
}

func (h *heard) messages() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, e := range h.entries {
		out = append(out, e.Message())
	}
	return out
}

// await waits until exactly these messages were delivered.
func (h *heard) await(want ...string) {
	h.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		got := h.messages()
		if slices.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) || len(got) > len(want) {
			h.t.Fatalf("received %q, want %q", got, want)
		}
	}
}

// end waits until the following ended by itself.
func (h *heard) end() error {
	h.t.Helper()
	select {
	case err := <-h.done:
		return err
	case <-time.After(patience):
		h.t.Fatal("following did not end")
		return nil
	}
}

// say logs lines as a unit of that identifier.
func say(t *testing.T, identifier string, lines ...string) {
	t.Helper()
	cmd := exec.Command("systemd-cat", "--identifier="+identifier)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("systemd-cat: %v\n%s", err, out)
	}
}

// awaitFollowing waits until the unit runs: then a test may break it.
func awaitFollowing(t *testing.T) {
	t.Helper()
	awaitState(t, JournalUnit, "active")
}

// awaitState waits for a unit's ActiveState; "" waits until PID 1 has no such unit.
func awaitState(t *testing.T, unit, want string) {
	t.Helper()
	got := "?"
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		out := strings.Fields(run(t, "systemctl", "list-units", "--all", "--plain", "--no-legend", unit))
		if got = ""; len(out) > 2 {
			got = out[2]
		}
		if got == want {
			return
		}
	}
	t.Fatalf("%s is %q, want %q", unit, got, want)
}

func saidBy(identifier string) JournalQuery {
	return JournalQuery{Matches: []string{"SYSLOG_IDENTIFIER=" + identifier},
		Fields: []string{"MESSAGE", "SYSLOG_IDENTIFIER"}}
}

func TestMachineFollowJournal(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	t.Cleanup(func() {
		if text := describe(f.all()); strings.Contains(text, JournalUnit) {
			t.Errorf("the watcher of %s received %s:\n%s", testPattern, JournalUnit, text)
		}
	})
	t.Run("from_the_call_on", func(t *testing.T) {
		say(t, "pmd-now", "before")
		run(t, "journalctl", "--sync")
		q := saidBy("pmd-now")
		q.FromNow = true
		h := f.listen(t, q)
		say(t, "pmd-now", "one", "two") // journalctl may still be on its way
		h.await("one", "two")
		say(t, "pmd-now", "three")
		h.await("one", "two", "three")
		h.cancel()
		if err := h.end(); err != nil {
			t.Errorf("FollowJournal = %v after its context ended, want nil", err)
		}
		awaitState(t, JournalUnit, "")
	})
	t.Run("after_a_cursor_nothing_is_lost_or_told_twice", func(t *testing.T) {
		q := saidBy("pmd-cursor")
		q.FromNow = true
		first := f.listen(t, q)
		say(t, "pmd-cursor", "one")
		first.await("one")
		first.cancel()
		if err := first.end(); err != nil {
			t.Error(err)
		}
		say(t, "pmd-cursor", "two")
		q.After = first.entries[0].Cursor
		second := f.listen(t, q)
		second.await("two")
		say(t, "pmd-cursor", "three")
		second.await("two", "three")
		if got := second.entries[1]; time.Since(got.At) > patience || got.Fields["SYSLOG_IDENTIFIER"] != "pmd-cursor" ||
			len(got.Fields) != 2 {
			t.Errorf("entry %+v", got)
		}
	})
	t.Run("filtered", func(t *testing.T) {
		q := saidBy("pmd-grep")
		q.FromNow, q.Grep = true, "(?i:out of memory)|NVRM: Xid"
		h := f.listen(t, q)
		say(t, "pmd-grep", "CUDA error: Out Of Memory", "nothing", "nvrm: xid", "NVRM: Xid (PCI:0000:65:00): 79")
		h.await("CUDA error: Out Of Memory", "NVRM: Xid (PCI:0000:65:00): 79")
	})
	t.Run("alternatives", func(t *testing.T) {
		q := saidBy("pmd-a")
		q.FromNow, q.Matches = true, append(q.Matches, "PRIORITY=6", "+", "SYSLOG_IDENTIFIER=pmd-b")
		h := f.listen(t, q)
		say(t, "pmd-a", "<6>a", "<3>worse")
		say(t, "pmd-b", "b")
		say(t, "pmd-c", "c")
		say(t, "pmd-a", "a")
		h.await("a", "b", "a")
	})
	t.Run("colours_and_long_lines", func(t *testing.T) {
		q := saidBy("pmd-odd")
		q.FromNow = true
		h := f.listen(t, q)
		long := strings.Repeat("x", 20_000)       // journalctl makes more than 4096 bytes null without --all
		escaped := strings.Repeat("\x01", 40_000) // six times as long in JSON
		say(t, "pmd-odd", "\x1b[31mred\x1b[0m", long, escaped, "last")
		h.await("\x1b[31mred\x1b[0m", long, escaped, "last")
	})
	t.Run("over_a_restart_of_the_journal", func(t *testing.T) {
		q := saidBy("pmd-journald")
		q.FromNow = true
		h := f.listen(t, q)
		say(t, "pmd-journald", "before")
		h.await("before")
		run(t, "systemctl", "restart", "systemd-journald.service")
		say(t, "pmd-journald", "after")
		h.await("before", "after")
		run(t, "journalctl", "--rotate")
		say(t, "pmd-journald", "rotated")
		h.await("before", "after", "rotated")
	})
	t.Run("over_a_daemon_reload_and_a_lost_bus", func(t *testing.T) {
		g := follow(t, Options{})
		q := saidBy("pmd-bus")
		q.FromNow = true
		h := g.listen(t, q)
		awaitFollowing(t)
		run(t, "systemctl", "daemon-reload")
		run(t, "systemctl", "daemon-reexec")
		g.awaitSynced(2)
		say(t, "pmd-bus", "still here")
		h.await("still here")
	})
}

func TestMachineFollowJournalEnds(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	q := saidBy("pmd-end")
	q.FromNow = true
	cases := map[string]struct {
		breakIt func(t *testing.T)
		says    string
	}{
		"killed":  {func(t *testing.T) { run(t, "systemctl", "kill", "--signal=KILL", JournalUnit) }, "signal SIGKILL"},
		"stopped": {func(t *testing.T) { run(t, "systemctl", "stop", JournalUnit) }, JournalUnit + " ended"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			h := f.listen(t, q)
			awaitFollowing(t)
			c.breakIt(t)
			if err := h.end(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("FollowJournal = %v, want %q in it", err, c.says)
			}
			awaitState(t, JournalUnit, "")
		})
	}
	t.Run("no_journalctl", func(t *testing.T) {
		run(t, "mv", journalctl, journalctl+".away")
		t.Cleanup(func() { run(t, "mv", journalctl+".away", journalctl) })
		err := f.listen(t, q).end()
		if err == nil || !strings.Contains(err.Error(), "could not execute") {
			t.Errorf("FollowJournal = %v", err)
		}
		if _, err := f.ReadJournal(timeout(t), q, 1); err == nil ||
			!strings.Contains(err.Error(), "could not execute") {
			t.Errorf("ReadJournal = %v", err)
		}
	})
	t.Run("without_grep_of_its_own", func(t *testing.T) {
		// A journalctl that was built without PCRE2, or does not find the library, ends like this.
		run(t, "mv", journalctl, journalctl+".away")
		t.Cleanup(func() { run(t, "mv", journalctl+".away", journalctl) })
		script := "#!/bin/sh\ncase \"$*\" in *--grep=*) echo 'Compiled without pattern matching support' >&2; exit " +
			"1;; esac\nexec " + journalctl + ".away \"$@\"\n"
		if err := os.WriteFile(journalctl, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		q := saidBy("pmd-nogrep")
		q.FromNow, q.Grep = true, "wanted"
		h := f.listen(t, q)
		say(t, "pmd-nogrep", "is wanted", "is not", "WANTED", "wanted too")
		h.await("is wanted", "wanted too")
		got, err := f.ReadJournal(timeout(t), q, 10)
		if err != nil || len(got) != 0 { // from now: nothing since
			t.Errorf("ReadJournal = %v, %v", got, err)
		}
		q.FromNow = false
		if got, err = f.ReadJournal(timeout(t), q, 1); err != nil || len(got) != 1 || got[0].Message() != "wanted too" {
			t.Errorf("ReadJournal = %v, %v", got, err)
		}
	})
}

func TestMachineReadJournal(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	say(t, "pmd-read", "one", "two wanted", "three wanted", "four")
	run(t, "journalctl", "--sync")
	for name, c := range map[string]struct {
		grep  string
		limit int
		want  string
	}{
		"the_newest_in_their_order": {"", 3, "two wanted|three wanted|four"},
		"all":                       {"", 100, "one|two wanted|three wanted|four"},
		"filtered":                  {"wanted$", 1, "three wanted"},
		"none":                      {"no such line", 10, ""},
	} {
		t.Run(name, func(t *testing.T) {
			q := saidBy("pmd-read")
			q.Grep = c.grep
			begun := time.Now()
			entries, err := f.ReadJournal(timeout(t), q, c.limit)
			t.Logf("took %s", time.Since(begun))
			var got []string
			for _, e := range entries {
				got = append(got, e.Message())
			}
			if err != nil || strings.Join(got, "|") != c.want {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

// TestMachineJournalUnitIsFenced looks at the unit from outside.
func TestMachineJournalUnitIsFenced(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	q := saidBy("pmd-fence")
	q.FromNow = true
	f.listen(t, q)
	awaitFollowing(t)
	pid := run(t, "systemctl", "show", "-P", "MainPID", JournalUnit)
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1",
		"Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("%q is not in its status:\n%s", want, status)
		}
	}
	if strings.Contains(string(status), "Uid:\t0") {
		t.Error("it runs as root")
	}
	own, _ := os.Readlink("/proc/self/ns/net")
	if its, err := os.Readlink("/proc/" + pid + "/ns/net"); err != nil || its == own {
		t.Errorf("it is in the network of the host: %s, %v", its, err)
	}
	t.Log(run(t, "systemd-analyze", "security", "--no-pager", JournalUnit))
	t.Log(run(t, "systemctl", "show", "-p", "MemoryCurrent", "-p", "CPUUsageNSec", JournalUnit))
}

// TestJournalChild is no test of its own: it is the manager that the test below kills.
func TestJournalChild(t *testing.T) {
	if os.Getenv("JOURNAL_CHILD") == "" {
		t.Skip("only as a process of the test below")
	}
	c := NewClient(Options{Pattern: testPattern, Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	synced := make(chan struct{})
	go func() {
		_ = c.Run(context.Background(), func(u Update) {
			if u.Kind == Synced {
				close(synced)
			}
		})
	}()
	<-synced
	q := saidBy("pmd-child")
	q.FromNow = true
	err := c.FollowJournal(context.Background(), q, func(e JournalEntry) { fmt.Println(e.Message()) })
	t.Fatal(err)
}

func TestMachineJournalUnitEndsWithTheManager(t *testing.T) {
	enter(t)
	child := func(t *testing.T) *exec.Cmd {
		cmd := exec.Command(os.Args[0], "-test.run=^TestJournalChild$")
		cmd.Env = append(os.Environ(), "JOURNAL_CHILD=1")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		awaitFollowing(t)
		return cmd
	}
	t.Run("killed", func(t *testing.T) {
		cmd := child(t)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		awaitState(t, JournalUnit, "")
	})
	t.Run("a_new_one_takes_its_place", func(t *testing.T) {
		child(t)
		former := run(t, "systemctl", "show", "-P", "InvocationID", JournalUnit)
		f := follow(t, Options{})
		q := saidBy("pmd-next")
		q.FromNow = true
		h := f.listen(t, q)
		say(t, "pmd-next", "mine")
		h.await("mine")
		if now := run(t, "systemctl", "show", "-P", "InvocationID", JournalUnit); now == former {
			t.Errorf("the unit is still the former manager's, run %s", now)
		}
	})
}

// TestKernelLines writes to the kernel's log, which only a machine with a kernel of its own has.
func TestKernelLines(t *testing.T) {
	enter(t)
	f := follow(t, Options{})
	h := f.listen(t, JournalQuery{
		Matches: []string{"_TRANSPORT=kernel", "+", "SYSLOG_IDENTIFIER=pmd-engine"}, Grep: "NVRM: |out of memory",
		Fields: []string{"MESSAGE", "_TRANSPORT", "SYSLOG_IDENTIFIER"}, FromNow: true,
	})
	awaitFollowing(t)
	line := "NVRM: Xid (PCI:0000:65:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
	// Of what a program writes there the journal takes the first word for its name; the kernel's
	// own lines have this one.
	if err := os.WriteFile("/dev/kmsg", []byte("<3>kernel: "+line+"\n"), 0); err != nil {
		t.Fatal(err)
	}
	h.await(line)
	say(t, "pmd-engine", "CUDA error: out of memory")
	h.await(line, "CUDA error: out of memory")
	if got := h.entries[0].Fields["_TRANSPORT"]; got != "kernel" {
		t.Errorf("_TRANSPORT is %q", got)
	}
}
