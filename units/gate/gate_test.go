package gate

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// The test binary plays the engine in a process of its own, so that it can die, and can be another user's.
const engineVariable = "POOL_GATE_TEST_ENGINE"

func TestMain(m *testing.M) {
	if script := os.Getenv(engineVariable); script != "" {
		engine(script)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// engine listens on the port and does as the script says: "healthy-after 200ms", "die-after 200ms", "burn", "idle".
func engine(script string) {
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
	if f[1] == "burn" {
		go func() {
			for time.Since(began) < 20*time.Second {
			}
		}()
	}
	_ = http.ListenAndServe("127.0.0.1:"+f[0], http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !loaded.Load() {
			http.Error(w, "Loading model", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, "ok")
	}))
}

func freePort(t *testing.T) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// start runs an engine and returns the gate's options for it.
func start(t *testing.T, port int, script string) (Options, *exec.Cmd) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "-test.run=^$")
	cmd.Env = append(os.Environ(), engineVariable+"="+strconv.Itoa(port)+" "+script)
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

// decide runs the loop without giving up this test's privileges.
func decide(t *testing.T, o Options) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	at, err := parseEndpoint(o.URL)
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
	return o.loop(ctx, at, w, nil)
}

func TestGateOnRealProcesses(t *testing.T) {
	t.Run("waits_until_the_model_is_loaded", func(t *testing.T) {
		o, _ := start(t, freePort(t), "healthy-after 500ms")
		if got := decide(t, o); got != exit.Ready {
			t.Errorf("exit %d, want %d", got, exit.Ready)
		}
	})
	t.Run("sees_the_engine_die", func(t *testing.T) {
		o, _ := start(t, freePort(t), "die-after 300ms")
		if got := decide(t, o); got != exit.EngineGone {
			t.Errorf("exit %d, want %d", got, exit.EngineGone)
		}
	})
	t.Run("fails_a_load_that_stalls", func(t *testing.T) {
		o, _ := start(t, freePort(t), "idle")
		if got := decide(t, o); got != exit.Stalled {
			t.Errorf("exit %d, want %d", got, exit.Stalled)
		}
	})
	t.Run("lets_a_load_that_works_go_on_past_the_stall_time", func(t *testing.T) {
		o, _ := start(t, freePort(t), "burn 4s")
		if got := decide(t, o); got != exit.Ready {
			t.Errorf("exit %d, want %d", got, exit.Ready)
		}
	})
	t.Run("is_not_fooled_by_another_users_listener", func(t *testing.T) {
		// The listener is this test's own; the engine's process is made to look like another user's.
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") })}
		go func() { _ = srv.Serve(l) }()
		defer srv.Close()
		port := l.Addr().(*net.TCPAddr).Port
		at := endpoint{host: "127.0.0.1", port: port, path: "/health"}
		if got := at.ask(os.Getuid(), 200); got != Healthy {
			t.Errorf("own listener: answer %d, want healthy", got)
		}
		if got := at.ask(os.Getuid()+1, 200); got != Foreign {
			t.Errorf("another user's listener: answer %d, want foreign", got)
		}
	})
	t.Run("a_wrong_url_is_a_wrong_command_line", func(t *testing.T) {
		if got := Run(t.Context(), Options{URL: "http://example.com/", Log: log.New(io.Discard, "", 0)}); got != exit.Usage {
			t.Errorf("exit %d, want %d", got, exit.Usage)
		}
	})
	t.Run("an_engine_that_is_gone_already", func(t *testing.T) {
		cmd := exec.Command("/bin/true")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		o := Options{URL: "http://127.0.0.1:1/", Log: log.New(io.Discard, "", 0), MainPID: cmd.Process.Pid}
		if got := Run(t.Context(), o); got != exit.EngineGone {
			t.Errorf("exit %d, want %d", got, exit.EngineGone)
		}
	})
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
