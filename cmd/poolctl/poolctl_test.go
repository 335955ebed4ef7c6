package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/safe"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/client"
	"github.com/pool-managerd/pool-managerd/test/golden"
)

var update = flag.Bool("update", false, "write the golden files")

// TestGolden shows every command as a person sees it: what is typed, what is printed, and how it
// ends.
func TestGolden(t *testing.T) {
	h := newHost(t)
	h.fill()
	cases := []struct{ name, line string }{
		{"list", "list"},
		{"list-wide", "list -o wide"},
		{"list-json", "list -o json"},
		{"status-ready", "status gemma"},
		{"status-ready-wide", "status gemma -o wide"},
		{"status-one-replica-crashed", "status llama3-8b"},
		{"status-model-missing", "status phi"},
		{"status-invalid", "status typo"},
		{"status-unknown", "status gema"},
		{"status-unknown-and-far", "status zebra"},
		{"render", "render gemma"},
		{"render-json", "render gemma -o json"},
		{"render-impossible", "render phi"},
		{"render-unknown", "render gamma"},
		{"version", "version"},
		{"version-json", "version -o json"},
		{"version-flag", "--version"},
		{"version-flag-json", "--version -o json"},
		{"usage-timeout", "list --timeout 0s"},
		{"usage-timeout-negative", "list --timeout=-1s"},
		{"usage-no-pool", "status"},
		{"usage-two-pools", "render gemma phi"},
		{"usage-bad-id", "status ../etc"},
		{"usage-bad-form", "list -o xml"},
		{"usage-name", "status gemma -o name"},
		{"list-name", "list -o name"},
		{"list-yaml", "list -o yaml"},
		{"usage-flag-typo", "list --wacth"},
		{"usage-unknown-flag", "list --colour"},
		{"usage-unknown-command", "lsit"},
		{"usage-two-places", "list --url http://127.0.0.1:9200"},
		{"usage-glob", "list gem[ma"},
		{"usage-all-and-one", "status --all gemma"},
		{"usage-state", "list --state redy"},
		{"usage-kind", "events --kind crashes"},
		{"usage-template", "list -o jsonpath={.pools[*.id}"},
		{"list-glob", "list llama* typo"},
		{"list-state", "list --state failed,invalid"},
		{"list-no-state", "list --state staging"},
		{"list-no-match", "list zz*"},
		{"list-typo", "list gemma gema"},
		{"list-template", "list -o jsonpath={.pools[?(@.ready==true)].id}"},
		{"list-no-field", "list -o jsonpath={.pools[*].stat}"},
		{"status-several", "status gemma ph?"},
		{"status-template", "status gemma -o jsonpath={.id}:{.slots_free}/{.slots_total}"},
		{"drain-several", "drain gemma llama*"},
		{"drain-glob-no-match", "drain zz*"},
		{"usage-two-forms", "list --json -o wide"},
		{"usage-token-for-socket", "list --token-file x"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { h.golden(t, c.name, c.line) })
	}
}

// golden holds what a command line prints, and how it ends, to the file that pins it.
func (h *host) golden(t *testing.T, name, line string) {
	t.Helper()
	r := h.run(strings.Fields(line)...)
	got := fmt.Sprintf("$ poolctl %s\n%s", line, r.out)
	if r.errOut != "" {
		got += "-- standard error --\n" + r.errOut
	}
	got += fmt.Sprintf("-- exit status %d --\n", r.code)
	got = strings.ReplaceAll(got, h.socket, "/run/pool-managerd/api.sock")
	golden.File(t, filepath.Join("testdata", name+".golden"), got, *update)
}

func TestNoPools(t *testing.T) {
	r := newHost(t).run("list")
	if r.code != exitOK || !strings.Contains(r.out, "No pools.") || !strings.Contains(r.out, "pools.d") {
		t.Errorf("%d %s%s", r.code, r.out, r.errOut)
	}
}

func TestOverTCP(t *testing.T) {
	h := newHost(t)
	h.fill()
	ctx := t.Context()
	t.Run("with_the_token", func(t *testing.T) {
		if r := poolctl(ctx, "list", "--url", h.url, "--token-file", h.token); r.code != exitOK ||
			r.out != h.run("list").out {
			t.Errorf("%d %s%s", r.code, r.out, r.errOut)
		}
	})
	t.Run("without", func(t *testing.T) {
		r := poolctl(ctx, "list", "--url", h.url+"/")
		if r.code != exitFailed || !strings.Contains(r.errOut, "needs a token") ||
			!strings.Contains(r.errOut, "--token-file") {
			t.Errorf("%d %s", r.code, r.errOut)
		}
	})
	t.Run("with_another", func(t *testing.T) {
		other := filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(other, []byte("other"), 0o600); err != nil {
			t.Fatal(err)
		}
		r := poolctl(ctx, "list", "--url", h.url, "--token-file", other)
		if r.code != exitFailed || !strings.Contains(r.errOut, "does not accept this token") {
			t.Errorf("%d %s", r.code, r.errOut)
		}
	})
	t.Run("a_token_file_that_is_not_there", func(t *testing.T) {
		r := poolctl(ctx, "list", "--url", h.url, "--token-file", h.token+".no")
		if r.code != exitFailed || !strings.Contains(r.errOut, h.token+".no") {
			t.Errorf("%d %s", r.code, r.errOut)
		}
	})
	t.Run("version_needs_none", func(t *testing.T) {
		if r := poolctl(ctx, "version", "--url", h.url); !strings.Contains(r.out, "1.2.3") {
			t.Errorf("%d %s%s", r.code, r.out, r.errOut)
		}
	})
	for _, bad := range []string{"127.0.0.1:9200", "ftp://x", "http://", "http://user:pw@x"} {
		t.Run("bad_url_"+strings.ReplaceAll(bad, "/", "_"), func(t *testing.T) {
			if r := poolctl(ctx, "list", "--url", bad); r.code != exitUsage ||
				!strings.Contains(r.errOut, "http://HOST:PORT") {
				t.Errorf("%d %s", r.code, r.errOut)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead.sock")
	l, err := net.Listen("unix", dead)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
	cases := []struct {
		name string
		args []string
		want []string
	}{
		{"no_socket", []string{"--socket", filepath.Join(dir, "none.sock")}, []string{"there is no socket", "systemctl status pool-managerd.socket"}},
		{"refused", []string{"--socket", dead}, []string{"nothing listens on", dead, "systemctl start pool-managerd.socket"}},
		{"refused_over_tcp", []string{"--url", "http://127.0.0.1:1"}, []string{"nothing listens on 127.0.0.1:1"}},
		{"no_such_host", []string{"--url", "http://no-such-host.invalid"}, []string{"no-such-host.invalid", "cannot be reached"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			for _, command := range []string{"list", "status gemma", "devices", "render gemma"} {
				r := poolctl(t.Context(), append(strings.Fields(command), c.args...)...)
				if r.code != exitUnreachable || r.out != "" {
					t.Errorf("%s: exit status %d, %q", command, r.code, r.out)
				}
				for _, part := range c.want {
					if !strings.Contains(r.errOut, part) {
						t.Errorf("%s: no %q in %s", command, part, r.errOut)
					}
				}
			}
		})
	}
	t.Run("forbidden", func(t *testing.T) {
		err := unreachable(&client.Unreachable{Addr: "/s", Err: &net.OpError{Op: "dial",
			Err: &os.SyscallError{Syscall: "connect", Err: syscall.EACCES}}})
		if exitOf(err) != exitUnreachable || !strings.Contains(err.Error(), "permission denied on the socket /s") {
			t.Errorf("%d %v", exitOf(err), err)
		}
	})
	t.Run("no_answer", func(t *testing.T) {
		silent := &client.Unreachable{Addr: "/s", Err: context.DeadlineExceeded, Within: 3 * time.Second}
		if err := unreachable(silent); !strings.Contains(err.Error(), "did not answer within 3s") {
			t.Errorf("%v", err)
		}
	})
	t.Run("version_says_so_and_succeeds", func(t *testing.T) {
		if r := poolctl(t.Context(), "version", "--socket", filepath.Join(dir, "none.sock")); r.code != exitOK ||
			!strings.Contains(r.out, "does not answer") {
			t.Errorf("%d %s", r.code, r.out)
		}
	})
}

func TestAnotherProgramsAddress(t *testing.T) {
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	if r := poolctl(t.Context(), "list", "--url", s.URL); r.code != exitFailed ||
		!strings.Contains(r.errOut, "another program") {
		t.Errorf("%d %s", r.code, r.errOut)
	}
	ok := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }))
	defer ok.Close()
	if r := poolctl(t.Context(), "list", "--url", ok.URL); r.code != exitFailed ||
		!strings.Contains(r.errOut, "not what this version of poolctl expects") {
		t.Errorf("%d %s", r.code, r.errOut)
	}
}

// TestNothingMovesTheCursor: an engine chose these texts.
func TestNothingMovesTheCursor(t *testing.T) {
	h := newHost(t)
	evil := "\x1b[2J\x1b]0;owned\a\u009b31m\u202egnp.exe\nsecond line\x00\xff"
	h.reg.Put(registry.Aggregate(registry.Pool{ID: "evil", Engine: evil, ModelID: "file:/" + evil, Wanted: true,
		Devices: []registry.PoolDevice{{ID: evil, UUID: evil, Name: evil}}, Replicas: []registry.Replica{
			{ID: "r0", State: registry.StateBackoff, Reason: evil, Unit: evil, Endpoint: evil, EngineVersion: evil,
				DeviceMask: []string{evil},
				LastError:  registry.Fail(registry.CodeEngineCrashed, evil, evil)},
		}}))
	h.reg.SetProblems([]registry.Problem{{File: evil, Text: evil, Hint: evil}})
	why := registry.Fail(registry.CodeDriverError, evil, evil)
	h.reg.SetDevices(registry.Devices{Driver: registry.Driver{Version: evil, Failure: why}, Stale: why,
		Devices: []registry.Device{{UUID: evil, Name: evil, PCI: evil,
			RecoveryAction: evil, MIG: new(bool), Failure: why, Pools: []string{evil},
			Processes:  []registry.GPUProcess{{Unit: evil, Pool: evil, Replica: evil}},
			Partitions: []registry.Partition{{UUID: evil, Profile: evil, Pools: []string{evil}}}}}})
	for _, line := range []string{"list", "list -o wide", "list -o json", "status evil", "status evil -o wide", "status evil -o json", "render evil", "render evil -o json",
		"devices", "devices -o wide", "devices -p", "devices --json"} {
		t.Run(strings.ReplaceAll(line, " ", "_"), func(t *testing.T) {
			r := h.run(strings.Fields(line)...)
			if r.code != exitOK {
				t.Fatalf("%d %s", r.code, r.errOut)
			}
			for _, c := range r.out {
				if c != '\n' && safe.Unsafe(c) {
					t.Fatalf("%U is in the output: %q", c, r.out)
				}
			}
			if strings.HasSuffix(line, "json") && !json.Valid([]byte(r.out)) {
				t.Errorf("no JSON: %s", r.out)
			}
		})
	}
	t.Run("errors", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(500)
			fmt.Fprint(w, `{"code":"X","message":"\u001b[2J","hint":"\u001b[31m"}`)
		}))
		defer s.Close()
		if r := poolctl(t.Context(), "list", "--url", s.URL); strings.Contains(r.errOut, "\x1b") {
			t.Errorf("%q", r.errOut)
		}
	})
}

func TestCheck(t *testing.T) {
	dir := t.TempDir()
	pools := filepath.Join(dir, "pools.d")
	if err := os.Mkdir(pools, 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "config.toml")
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	check := func(args ...string) result {
		return poolctl(t.Context(), append([]string{"check", "--config", config, "--pools-dir", pools}, args...)...)
	}
	if r := check(); r.code != exitOK || r.errOut != "" {
		t.Errorf("nothing to complain about: %d %s%s", r.code, r.out, r.errOut)
	}
	write(config, "require_gpu = false\n")
	template := filepath.Join(dir, "chat.jinja")
	write(filepath.Join(pools, "f.toml"), "engine = \"llamacpp\"\nmodel = \"file:/srv/a.gguf\"\n"+
		"args = [\"--jinja\",\n  \"--chat-template-file\", \""+template+"\"]\n")
	if r := check(); r.code != exitFailed || !strings.Contains(r.out, "f.toml:4:27: file "+template+
		" of args[2] (--chat-template-file) does not exist\n    Copy it there") {
		t.Errorf("a template that is missing: %d %s%s", r.code, r.out, r.errOut)
	}
	write(template, "{{ x }}")
	if r := check(); r.code != exitOK ||
		!strings.Contains(r.out, "f.toml:2:9: warning: model /srv/a.gguf does not exist") {
		t.Errorf("a template that is there: %d %s%s", r.code, r.out, r.errOut)
	}
	if err := os.Remove(filepath.Join(pools, "f.toml")); err != nil {
		t.Fatal(err)
	}
	write(config, "requiregpu = false\n")
	write(filepath.Join(pools, "a.toml"), "engine = \"llamacpp\"\nslotz = 3\n")
	write(filepath.Join(pools, "b.toml"), "engine = \n")
	write(filepath.Join(pools, "c.toml"), "\"\\u001b[2J\" = 3\n")
	r := check()
	if r.code != exitFailed || r.errOut != "" {
		t.Errorf("three wrong files: exit status %d, %s", r.code, r.errOut)
	}
	for _, part := range []string{"config.toml:1:", "a.toml:2:", "slotz", "b.toml:1:", "c.toml:1:"} {
		if !strings.Contains(r.out, part) {
			t.Errorf("no %q in:\n%s", part, r.out)
		}
	}
	if strings.Contains(r.out, "\x1b") {
		t.Errorf("a file's own escape sequence is printed: %q", r.out)
	}
	write(config, "")
	for _, name := range []string{"a", "b", "c"} {
		write(filepath.Join(pools, name+".toml"), "engine = \"vllm\"\nmodel = \"file:/srv/a\"\ndevices = [0]\n")
	}
	write(filepath.Join(pools, "b.toml"), "engine = \"vllm\"\nmodel = \"file:/srv/a\"\ndevices = []\n")
	if r := check(); r.code != exitFailed || !strings.Contains(r.out, "b.toml:3:11: the pool has no devices") ||
		!strings.Contains(r.out, "\n1 problem, with 6 warnings.\n") {
		t.Errorf("a pool that the policy forbids: exit status %d, %s", r.code, r.out)
	}
	write(filepath.Join(pools, "b.toml"), "engine = \n")
	write(config, "requiregpu = false\na = 1\nb = 1\n")
	r = check("-o", "json")
	var got struct {
		OK       bool
		Problems []any
	}
	if err := json.Unmarshal([]byte(r.out), &got); err != nil || got.OK || len(got.Problems) < 4 ||
		r.code != exitFailed {
		t.Errorf("%v: %d %s", err, r.code, r.out)
	}
}

func TestCompletion(t *testing.T) {
	h := newHost(t)
	h.fill()
	t.Run("pools", func(t *testing.T) {
		r := poolctl(t.Context(), "__complete", "--socket", h.socket, "status", "l")
		if !strings.HasPrefix(r.out, "llama3-8b\tready\n:4\n") {
			t.Errorf("%s", r.out)
		}
	})
	t.Run("no_pool_twice", func(t *testing.T) {
		if r := poolctl(t.Context(), "__complete", "--socket", h.socket, "status", "gemma",
			""); strings.Contains(r.out, "gemma") || !strings.Contains(r.out, "llama3-8b\tready\n") {
			t.Errorf("%s", r.out)
		}
	})
	t.Run("no_second_pool_of_a_command_on_one", func(t *testing.T) {
		if r := poolctl(t.Context(), "__complete", "--socket", h.socket, "render", "gemma",
			""); !strings.HasPrefix(r.out, ":4\n") {
			t.Errorf("%s", r.out)
		}
	})
	t.Run("nothing_where_the_daemon_is_down", func(t *testing.T) {
		if r := poolctl(t.Context(), "__complete", "--socket", "/nowhere", "status", ""); !strings.HasPrefix(r.out,
			":4\n") {
			t.Errorf("%s", r.out)
		}
	})
	h.fillGPUs()
	for _, c := range []struct{ name, line, want string }{
		{"states", "list --state in", "invalid\n:4\n"},
		{"states_behind_a_comma", "list --state failed,inv", "failed,invalid\n:4\n"},
		{"kinds", "events --kind cr", "crash\n:4\n"},
		{"models", "reload gemma --model file:/srv/models/ge", "file:/srv/models/gemma-2b-q4.gguf\n"},
		{"devices", "fit x --devices GPU-c0", "GPU-c0ffee12-3456-4789-abcd-ef0123456789\tNVIDIA H100 80GB HBM3\n"},
		{"partitions", "fit x --devices MIG-1f", "MIG-1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f0\tNVIDIA H100 80GB HBM3 MIG 3g.40gb\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			words := append([]string{"__complete", "--socket", h.socket}, strings.Fields(c.line)...)
			if r := poolctl(t.Context(), words...); !strings.HasPrefix(r.out, c.want) {
				t.Errorf("%v: %s%s", words, r.out, r.errOut)
			}
		})
	}
	t.Run("over_tcp", func(t *testing.T) {
		if r := poolctl(t.Context(), "__complete", "--host", h.url, "--token-file", h.token, "status",
			"g"); !strings.HasPrefix(r.out, "gemma\tready\n") {
			t.Errorf("%s%s", r.out, r.errOut)
		}
	})
	t.Run("forms", func(t *testing.T) {
		if r := poolctl(t.Context(), "__complete", "list", "-o", ""); !strings.HasPrefix(r.out, "table\nwide\njson\n") {
			t.Errorf("%s", r.out)
		}
	})
	for _, shell := range []string{"bash", "zsh", "fish"} {
		t.Run(shell, func(t *testing.T) {
			if r := poolctl(t.Context(), "completion", shell); r.code != exitOK || !strings.Contains(r.out, "poolctl") {
				t.Errorf("%d %s", r.code, r.errOut)
			}
		})
	}
}

func TestBrokenOutput(t *testing.T) {
	h := newHost(t)
	h.fill()
	for _, command := range []string{"list", "status gemma", "devices", "devices -p", "render gemma", "version"} {
		var errOut syncBuffer
		a := &app{out: brokenPipe{}, err: &errOut, now: time.Now, every: time.Second}
		if code := run(t.Context(), a, append(strings.Fields(command), "--socket", h.socket)); code != exitFailed {
			t.Errorf("%s: exit status %d although nothing could be printed", command, code)
		}
	}
}

func TestExitStatuses(t *testing.T) {
	cases := []struct {
		err  error
		want int
	}{
		{nil, exitOK},
		{&failed{fs.ErrInvalid}, exitFailed},
		{&failed{errSilent}, exitFailed},
		{usage("x"), exitUsage},
		{fs.ErrInvalid, exitUsage}, // cobra's own
		{&exitError{code: exitNoPool}, exitNoPool},
		{unreachable(&client.Unreachable{Addr: "/s", Err: fs.ErrNotExist}), exitUnreachable},
	}
	for _, c := range cases {
		if got := exitOf(c.err); got != c.want {
			t.Errorf("%v: exit status %d, want %d", c.err, got, c.want)
		}
	}
}
