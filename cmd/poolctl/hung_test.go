package main

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"

	"github.com/pool-managerd/pool-managerd/test/golden"
)

// hungHost is a host whose manager takes connections and never answers, as one that is stopped by
// SIGSTOP: the kernel takes them until the queue is full. engines are what systemctl prints.
func hungHost(t *testing.T) *app {
	t.Helper()
	root, err := os.MkdirTemp("", "hung") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(root) })
	for _, dir := range []string{filepath.Dir(defaultAdminSocket), handoffDir, "/etc/pool-managerd/pools.d"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(root, defaultAdminSocket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	for name, text := range map[string]string{
		"systemctl":                                  "#!/bin/sh\ncat <<'END'\n" + unitsOfEngines + "END\n",
		"journalctl":                                 "#!/bin/sh\nexit 1\n",
		"etc/pool-managerd/pools.d/gemma.toml":       "",
		"etc/pool-managerd/pools.d/llama3-8b.toml":   "",
		"etc/pool-managerd/pools.d/Not an id.toml":   "",
		"etc/pool-managerd/pools.d/off.toml.disable": "",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return &app{now: func() time.Time { return clock }, every: time.Millisecond, root: root,
		systemctl: filepath.Join(root, "systemctl"), journalctl: filepath.Join(root, "journalctl")}
}

// typedOn runs a command line on it.
func typedOn(t *testing.T, a *app, args ...string) (r result, took time.Duration) {
	t.Helper()
	var out, errOut syncBuffer
	b := *a
	b.out, b.err, b.o = &out, &errOut, options{}
	began := time.Now()
	r.code = run(t.Context(), &b, args)
	took = time.Since(began)
	r.out, r.errOut = strings.ReplaceAll(out.String(), a.root, ""), strings.ReplaceAll(errOut.String(), a.root, "")
	return r, took
}

// reads are the commands that ask the manager and change nothing, each with arguments.
var reads = [...]string{"list", "status gemma", "status --all", "explain gemma", "explain gemma --why-stopped", "devices", "leases",
	"render gemma", "events", "events gemma", "clean", "models pull", "version"}

// TestHungManager: where the manager hangs, each command that reads ends in its time, reports it,
// and shows what PID 1 and the hand-off files have.
func TestHungManager(t *testing.T) {
	a := hungHost(t)
	for _, line := range reads {
		t.Run(strings.ReplaceAll(line, " ", "_"), func(t *testing.T) {
			t.Parallel()
			r, took := typedOn(t, a, append(strings.Fields(line), "--timeout", "100ms")...)
			if line == "version" {
				r.errOut, r.code = r.out, exitUnreachable // it has a version all the same
			}
			if r.code != exitUnreachable || !strings.Contains(r.errOut, "did not answer within 100ms") {
				t.Errorf("exit status %d\n%s%s", r.code, r.out, r.errOut)
			}
			if took > 5*time.Second { // 100 ms, and what a busy host needs for the rest
				t.Errorf("it took %s", took)
			}
			if seen := strings.Contains(r.out, "pool-engine@gemma") || strings.Contains(r.out, "gemma  "); seen !=
				slices.Contains([]string{"list", "status", "explain"}, strings.Fields(line)[0]) &&
				line != "explain gemma --why-stopped" {
				t.Errorf("what PID 1 has: %v\n%s", seen, r.out)
			}
		})
	}
	t.Run("golden", func(t *testing.T) {
		for name, line := range map[string]string{"hung-explain": "explain gemma", "hung-devices": "devices",
			"hung-render": "render gemma", "hung-events": "events gemma"} {
			r, _ := typedOn(t, a, append(strings.Fields(line), "--timeout", "100ms")...)
			got := "$ poolctl " + line + " --timeout 100ms\n" + r.out + "-- standard error --\n" + r.errOut +
				"-- exit status 4 --\n"
			golden.File(t, filepath.Join("testdata", name+".golden"), got, *update)
		}
	})
	t.Run("without_the_option_after_three_seconds", func(t *testing.T) {
		t.Parallel()
		r, took := typedOn(t, a, "list")
		if r.code != exitUnreachable || !strings.Contains(r.errOut, "did not answer within 3s") ||
			took < 3*time.Second || took > 10*time.Second {
			t.Errorf("after %s: exit status %d\n%s", took, r.code, r.errOut)
		}
	})
	t.Run("a_change_may_take_longer", func(t *testing.T) {
		t.Parallel()
		r, _ := typedOn(t, a, "drain", "gemma", "--timeout", "100ms")
		if r.code != exitUnreachable || !strings.Contains(r.errOut, "did not answer within 100ms") {
			t.Errorf("exit status %d\n%s", r.code, r.errOut)
		}
	})
	t.Run("watch_goes_on", func(t *testing.T) {
		b := *a
		w := watchOn(t, &b, "list", "--watch", "--timeout", "50ms")
		w.until("did not answer", 1)
		w.until("pool-managerd does not answer", 1)
		w.end()
	})
}

// TestEveryReadIsTriedOnAHungManager: no command is left out of the list above.
func TestEveryReadIsTriedOnAHungManager(t *testing.T) {
	others := []string{"drain", "resume", "restart", "reset", "unload", "reload", "bench", // they change something
		"check", "import", "completion", "help", "fit", "fleet", "logs", "models", // they do without
		"top"} // tried in a terminal
	for _, cmd := range newRoot(&app{}).Commands() {
		name := cmd.Name()
		if !slices.Contains(others, name) && !slices.ContainsFunc(reads[:], func(r string) bool {
			return strings.Fields(r)[0] == name
		}) {
			t.Errorf("%s is neither tried nor excused", name)
		}
	}
}

// TestCompletionOfAHungManager: a shell waits no longer than a person notices, and gets the names
// of the pools' files.
func TestCompletionOfAHungManager(t *testing.T) {
	a := hungHost(t)
	for _, c := range []struct {
		line string
		want string
	}{
		{"status ", "gemma\tno answer\nllama3-8b\tno answer\n:4\n"},
		{"drain g", "gemma\tno answer\n:4\n"},
		{"leases --holder ", ":4\n"},
		{"list --state in", "invalid\n:4\n"},
		{"fit x --devices ", ":6\n"},
		{"models pull --cancel ", ":4\n"},
		{"reload gemma --model ", ":4\n"},
	} {
		t.Run(strings.Fields(c.line)[0], func(t *testing.T) {
			r, took := typedOn(t, a, append([]string{"__complete"}, strings.Split(c.line, " ")...)...)
			if !strings.HasPrefix(r.out, c.want) {
				t.Errorf("%q", r.out)
			}
			if took > 3*time.Second { // 300 ms on a host that is not busy
				t.Errorf("it took %s", took)
			}
		})
	}
	if completeTimeout > 300*time.Millisecond {
		t.Error(completeTimeout)
	}
	t.Run("not_where_another_address_was_given", func(t *testing.T) {
		r, _ := typedOn(t, a, "__complete", "--socket", "/nowhere", "status", "")
		if !strings.HasPrefix(r.out, ":4\n") {
			t.Errorf("%q", r.out)
		}
	})
}

// BenchmarkCompletion is what a shell waits for with 250 pools, apart from the start of a process:
// 50 ms at most on a host that is not busy.
func BenchmarkCompletion(b *testing.B) {
	h := newHost(b)
	for i := range 250 {
		p := single("ready", int64(i))
		p.ID = "pool-" + strings.Repeat("x", i%8) + string(rune('a'+i%26)) + "-" + time.Duration(i).String()
		h.reg.Put(p)
	}
	for _, line := range []string{"status ", "list --state re", "events --kind c", "lea", "list --st"} {
		b.Run(strings.ReplaceAll(line, " ", "_"), func(b *testing.B) {
			words := append([]string{"__complete", "--socket", h.socket}, strings.Split(line, " ")...)
			for b.Loop() {
				if r := poolctl(b.Context(), words...); r.code != exitOK || strings.HasPrefix(r.out, ":") {
					b.Fatalf("%s: %d %s%s", line, r.code, r.out, r.errOut)
				}
			}
		})
	}
}

// TestTokenOverHTTP: a token that crosses a network unencrypted is warned of, unless that is
// accepted.
func TestTokenOverHTTP(t *testing.T) {
	for _, c := range []struct {
		args string
		host string // that the warning names; empty: none
	}{
		{"--url http://192.0.2.7:9200 --token-file t", "192.0.2.7"},
		{"--host http://engines.example:9200 --token-file t", "engines.example"},
		{"--host http://[2001:db8::1]:9200 --token-file t", "2001:db8::1"},
		{"--host http://localhost.example:9200 --token-file t", "localhost.example"},
		{"--host http://engines.example:9200 --token-file t --token-over-http", ""},
		{"--host http://engines.example:9200", ""},
		{"--host https://engines.example:9200 --token-file t", ""},
		{"--host http://127.0.0.1:9200 --token-file t", ""},
		{"--host http://127.8.0.1:9200 --token-file t", ""},
		{"--host http://[::1]:9200 --token-file t", ""},
		{"--host http://LocalHost:9200 --token-file t", ""},
		{"--host unix:/x --token-file t", ""},
	} {
		var errOut syncBuffer
		a := &app{err: &errOut}
		root := newRoot(a)
		cmd := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error { return nil }}
		root.AddCommand(cmd)
		root.SetArgs(append([]string{"x"}, strings.Fields(c.args)...))
		err := root.ExecuteContext(t.Context())
		warned := strings.Contains(errOut.String(), "the token is sent unencrypted to "+c.host+"\n")
		if err != nil || warned != (c.host != "") || c.host == "" && errOut.String() != "" {
			t.Errorf("%s: %v %s", c.args, err, errOut.String())
		}
	}
}
