package gate

import (
	"bytes"
	"context"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// The test binary plays the engine in a process of its own, so that it can die, and can be another
// user's.
const (
	engineVariable = "POOL_GATE_TEST_ENGINE"
	accessVariable = "POOL_GATE_TEST_ACCESS"
)

// TestKey: the gate sends the key that PID 1 has for the unit. Where its own view has none, it
// takes that of the engine's main process.
func TestKey(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "api-key"), []byte("sk-1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	if key, err := Key(0); key != "sk-1" || err != nil {
		t.Errorf("%q, %v", key, err)
	}
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer sk-1" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close(); <-done })
	for key, want := range map[string]Answer{"": Loading, "sk-2": Loading, "sk-1": Healthy} {
		at, err := parseEndpoint("http://"+l.Addr().String()+"/props", "", "")
		if at.key = key; err != nil || at.ask(os.Getuid(), 200).answer != want {
			t.Errorf("with the key %q: %v, want %v", key, at.ask(os.Getuid(), 200), want)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", filepath.Join(dir, "none"))
	for _, pid := range []int{0, os.Getpid()} {
		if key, err := Key(pid); err == nil {
			t.Errorf("of process %d: %q", pid, key)
		}
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := Key(0); err == nil || !strings.Contains(err.Error(), "CREDENTIALS_DIRECTORY is not set") {
		t.Errorf("%v", err)
	}
}

func TestMain(m *testing.M) {
	if script := os.Getenv(engineVariable); script != "" {
		engine(script)
		os.Exit(0)
	}
	flag.Parse()
	if err := flag.Set("test.parallel", together); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// together is how many tests run at once: each waits for most of its time, whatever the processors.
const together = "6"

// engine listens on the port and does as the script says: "healthy-after 200ms", "die-after 200ms",
// "burn 4s" and "fill 4s" (healthy after that, with CPU time or memory until then), "idle", and
// "answers 404", with an access log in accessVariable's file.
func engine(script string) {
	var kept [][]byte
	f := strings.Fields(script)
	began := time.Now()
	after := time.Hour
	if len(f) > 2 {
		after, _ = time.ParseDuration(f[2])
	}
	var loaded atomic.Bool
	go func() {
		time.Sleep(after)
		if f[1] == "die-after" {
			os.Exit(7)
		}
		loaded.Store(true)
	}()
	if f[1] == "fill" {
		go func() {
			for {
				time.Sleep(100 * time.Millisecond)
				kept = append(kept, bytes.Repeat([]byte{1}, 256<<10))
			}
		}()
	}
	if f[1] == "burn" {
		go func() {
			for time.Since(began) < 20*time.Second {
			}
		}()
	}
	_ = http.ListenAndServe("127.0.0.1:"+f[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if f[1] == "answers" {
			status, _ := strconv.Atoi(f[2])
			if access := os.Getenv(accessVariable); access != "" {
				log, _ := os.OpenFile(access, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
				fmt.Fprintln(log, `{"_PID":"1","MESSAGE":"GET /health"}`)
				log.Close()
			}
			w.WriteHeader(status)
			return
		}
		if !loaded.Load() {
			http.Error(w, "Loading model", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "ok")
	}))
}

// given are the ports that tests have, which the kernel may offer again before the engine listens.
var given sync.Map

func freePort(t *testing.T) int {
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		port := l.Addr().(*net.TCPAddr).Port
		l.Close()
		if _, taken := given.LoadOrStore(port, true); !taken {
			return port
		}
	}
}

// start runs an engine and returns the gate's options for it.
func start(t *testing.T, port int, script string, env ...string) (Options, *exec.Cmd) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(append(os.Environ(), env...), engineVariable+"="+strconv.Itoa(port)+" "+script)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan struct{})
	go func() { _ = cmd.Wait(); close(waited) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-waited })
	return Options{
		URL: "http://127.0.0.1:" + strconv.Itoa(port) + "/health", Expect: 200, Stall: 2 * time.Second,
		Log: log.New(io.Discard, "", 0), MainPID: cmd.Process.Pid,
	}, cmd
}

// decide runs the gate without giving up this test's privileges.
func decide(t *testing.T, o Options) int { return decideWith(t, o, "journalctl-that-is-not-there") }

// decideWith takes a program in journalctl's place.
func decideWith(t *testing.T, o Options, journalctl string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	at, err := parseEndpoint(o.URL, o.Unix, o.Body)
	if err != nil {
		t.Fatal(err)
	}
	w, err := watch(o.MainPID)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	// The test's control group holds whatever else runs here; in a unit it holds the engine alone.
	w.cgroup = ""
	lines := &follower{invocation: o.Invocation, journalctl: journalctl, log: o.Log.Println}
	defer lines.stop()
	return o.wait(ctx, at, w, lines)
}

func TestGateOnRealProcesses(t *testing.T) {
	t.Run("waits_until_the_model_is_loaded", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "healthy-after 500ms")
		if got := decide(t, o); got != exit.Ready {
			t.Errorf("exit %d, want %d", got, exit.Ready)
		}
	})
	t.Run("sees_the_engine_die", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "die-after 300ms")
		if got := decide(t, o); got != exit.EngineGone {
			t.Errorf("exit %d, want %d", got, exit.EngineGone)
		}
	})
	t.Run("fails_a_load_that_stalls", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "idle")
		if got := decide(t, o); got != exit.Stalled {
			t.Errorf("exit %d, want %d", got, exit.Stalled)
		}
	})
	t.Run("lets_a_load_that_works_go_on_past_the_stall_time", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "burn 4s")
		if got := decide(t, o); got != exit.Ready {
			t.Errorf("exit %d, want %d", got, exit.Ready)
		}
	})
	t.Run("memory_that_fills_is_progress", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "fill 4s")
		if got := decide(t, o); got != exit.Ready {
			t.Errorf("exit %d, want %d", got, exit.Ready)
		}
	})
	t.Run("log_lines_alone_are_progress", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "healthy-after 4s")
		o.Invocation = "1"
		if got := decideWith(t, o, program(t, "while sleep 0.2; do echo '{\"_PID\":\"1\"}'; done")); got != exit.Ready {
			t.Errorf("exit %d, want %d", got, exit.Ready)
		}
	})
	t.Run("a_log_that_ends_is_said_once", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "idle")
		var log strings.Builder
		o.Invocation, o.Log = "1", newLog(&log)
		if got := decideWith(t, o, program(t, "exit 1")); got != exit.Stalled {
			t.Errorf("exit %d, want %d", got, exit.Stalled)
		}
		if strings.Count(log.String(), "could not follow the log") != 1 {
			t.Errorf("the log:\n%s", &log)
		}
	})
	t.Run("no_journalctl_is_said_once", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "idle")
		var log strings.Builder
		o.Invocation, o.Log = "1", newLog(&log)
		if got := decide(t, o); got != exit.Stalled {
			t.Errorf("exit %d, want %d", got, exit.Stalled)
		}
		if strings.Count(log.String(), "could not follow the log") != 1 ||
			!strings.Contains(log.String(), "the load stalled") {
			t.Errorf("the log:\n%s", &log)
		}
	})
	t.Run("terminated", func(t *testing.T) {
		t.Parallel()
		o, _ := start(t, freePort(t), "idle")
		ctx, cancel := context.WithCancel(t.Context())
		w, err := watch(o.MainPID)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		cancel()
		if got := o.wait(ctx, endpoint{host: "127.0.0.1", port: 1, path: "/"}, w, &follower{}); got != exit.Failed {
			t.Errorf("exit %d, want %d", got, exit.Failed)
		}
	})
	t.Run("is_not_fooled_by_another_users_listener", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, "ok")
		})}
		go func() { _ = srv.Serve(l) }()
		defer srv.Close()
		port := l.Addr().(*net.TCPAddr).Port
		own := endpoint{host: "127.0.0.1", port: port, path: "/health"}
		if got := own.ask(os.Getuid(), 200); got.answer != Healthy {
			t.Errorf("own listener: %+v, want healthy", got)
		}
		for pattern, want := range map[string]Answer{"^o.$": Healthy, "loaded": Loading} {
			at, err := parseEndpoint("http://"+l.Addr().String()+"/health", "",
				base64.RawURLEncoding.EncodeToString([]byte(pattern)))
			if err != nil {
				t.Fatal(err)
			}
			if got := at.ask(os.Getuid(), 200); got.answer != want {
				t.Errorf("body %q: %+v, want %d", pattern, got, want)
			}
		}
		// The listener is this test's own; the engine is another user's process, or is made to look
		// like one.
		o, _ := start(t, freePort(t), "idle")
		o.URL = "http://" + l.Addr().String() + "/health"
		w, err := watch(o.MainPID)
		if err != nil {
			t.Fatal(err)
		}
		defer w.close()
		w.uid++
		at, err := parseEndpoint(o.URL, o.Unix, o.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got := o.wait(t.Context(), at, w, &follower{}); got != exit.ForeignPort {
			t.Errorf("exit %d, want %d", got, exit.ForeignPort)
		}
	})
	t.Run("a_wrong_url_is_a_wrong_command_line", func(t *testing.T) {
		t.Parallel()
		if got := Run(t.Context(), Options{URL: "http://example.com/",
			Log: log.New(io.Discard, "", 0)}); got != exit.Usage {
			t.Errorf("exit %d, want %d", got, exit.Usage)
		}
	})
	t.Run("an_engine_that_is_gone_already", func(t *testing.T) {
		t.Parallel()
		cmd := exec.Command("/bin/true")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		group := t.TempDir()
		o := Options{URL: "http://127.0.0.1:1/", Log: log.New(io.Discard, "", 0), MainPID: cmd.Process.Pid,
			group: group}
		procs := func(pids ...int) {
			text := strings.Trim(fmt.Sprint(pids), "[]")
			if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		procs(1)
		if got := Run(t.Context(), o); got != exit.Background {
			t.Errorf("with a process that it left: exit %d, want %d", got, exit.Background)
		}
		procs()
		if got := Run(t.Context(), o); got != exit.EngineGone {
			t.Errorf("exit %d, want %d", got, exit.EngineGone)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		o.URL = "http://" + l.Addr().String() + "/"
		if got := Run(t.Context(), o); got != exit.ForeignPort {
			t.Errorf("with another program on its port: exit %d, want %d", got, exit.ForeignPort)
		}
	})
}

// TestStrangers: of an engine that has ended, what listens may be what it left behind.
func TestStrangers(t *testing.T) {
	for _, c := range []struct {
		users []int
		want  bool
	}{{nil, false}, {[]int{0}, true}, {[]int{1000, 0}, true}, {[]int{61184}, false}, {[]int{1000, 65519}, false}} {
		if got := allStrangers(c.users); got != c.want {
			t.Errorf("allStrangers(%v) = %t", c.users, got)
		}
	}
}

// program writes a shell script.
func program(t *testing.T, script string) string {
	path := filepath.Join(t.TempDir(), "journalctl")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func newLog(w io.Writer) *log.Logger { return log.New(w, "", 0) }

func TestFollower(t *testing.T) {
	f := &follower{invocation: "abc", log: func(...any) {}, journalctl: program(t, `
		echo '{"_PID":"10"}'; echo "{\"_PID\":\"$$\"}"; echo '{"_PID":"11","__CURSOR":"x"}'; echo '{"_PID":"12"}'
		echo "$*" >&3; exec sleep 60`)}
	args, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer args.Close()
	f.journalctl = program(t, "exec 3>"+args.Name()+"\n"+"exec sh "+f.journalctl+` "$@"`)
	if f.due(time.Second, time.Minute) || !f.due(6*time.Second, time.Minute) {
		t.Error("the log is looked at when a tenth of the stall time has passed without progress")
	}
	if pid := f.start([]int{10}); pid == 0 || f.due(time.Hour, time.Minute) {
		t.Errorf("start = %d, and it would be started again", pid)
	}
	for deadline := time.Now().Add(10 * time.Second); f.seen() < 2 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	if got := f.seen(); got != 2 { // of four, one is the gate's and one journalctl's own
		t.Errorf("%d lines were counted, want 2", got)
	}
	f.stop()
	argv, err := os.ReadFile(args.Name())
	if err != nil || !strings.Contains(string(argv), "--follow --no-tail") ||
		!strings.Contains(string(argv), "_SYSTEMD_SLICE=pool-engines.slice _SYSTEMD_INVOCATION_ID=abc") {
		t.Errorf("journalctl was called with %q, %v", argv, err)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("MAINPID", "")
	var o Options
	if err := o.FromEnvironment(); err == nil || !strings.Contains(err.Error(), "ExecStartPost=") {
		t.Errorf("without MAINPID: %v", err)
	}
	t.Setenv("MAINPID", "42")
	t.Setenv("INVOCATION_ID", "abc")
	if err := o.FromEnvironment(); err != nil || o.MainPID != 42 || o.Invocation != "abc" {
		t.Errorf("FromEnvironment: %v, %+v", err, o)
	}
}
