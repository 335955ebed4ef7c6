//go:build machine

package render_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// stubPath is where the tests put the engine.
const stubPath = "/usr/local/bin/stub-engine"

// world is PID 1 of the machine, and what it can do.
type world struct {
	client *systemd.Client
	host   render.Host
}

// enter connects to PID 1. Outside of a machine it skips: test/e2e runs these tests inside.
func enter(t *testing.T) world {
	t.Helper()
	if !*inMachine {
		t.Skip("runs inside a test machine: go test -tags machine ./test/e2e -run TestRender")
	}
	installStub(t)
	client := systemd.NewClient(systemd.Options{
		Pattern: pool.UnitPattern,
		Log:     slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	synced, ended := make(chan systemd.Features, 1), make(chan struct{})
	go func() {
		defer close(ended)
		client.Run(ctx, func(u systemd.Update) {
			if u.Kind == systemd.Synced {
				select {
				case synced <- u.Features:
				default:
				}
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case features := <-synced:
		host := render.HostOf(features.Has)
		host.GatePath, host.MemoryBytes = stubPath, ram.Total()
		for _, root := range render.StagingRoots() {
			if _, err := os.Stat(root); err == nil {
				host.StagingRoot = root
				break
			}
		}
		return world{client, host}
	case <-time.After(30 * time.Second):
		t.Fatal("no connection to PID 1")
	}
	panic("unreachable")
}

func installStub(t *testing.T) {
	t.Helper()
	if _, err := os.Stat(stubPath); err == nil {
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	put(t, stubPath, string(binary), 0o755)
}

// put writes a file, and makes its directory with mode 0755 where it is missing.
func put(t *testing.T, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

// running is a rendered unit that runs.
type running struct {
	world
	t    *testing.T
	in   render.Input
	unit render.Unit
}

// start renders the input for this machine and starts it; it is active, or the test ends.
func (w world) start(t *testing.T, in render.Input) running {
	t.Helper()
	forwarder := in.Host.Forwarder // the machine's would take the network from every engine of these tests
	in.Host = w.host
	in.Host.Forwarder = forwarder
	if in.Prepared.Binary == "/usr/bin/llama-server" {
		in.Prepared.Binary = stubPath
	}
	in.Pool.Env = withStub(in.Pool.Env)
	unit, err := render.Render(in)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	job, err := w.client.StartTransient(ctx, unit.Name, unit.Properties())
	if err != nil {
		t.Fatalf("StartTransientUnit: %v", err)
	}
	r := running{w, t, in, unit}
	t.Cleanup(func() { r.stop() })
	if err := job.Wait(ctx); err != nil {
		t.Fatalf("start: %v\n%s", err, shell(t, "journalctl --no-pager -n 40; systemctl status --no-pager '"+unit.Name+
			"'; true"))
	}
	return r
}

func withStub(env map[string]string) map[string]string {
	out := map[string]string{stubVariable: "1"}
	for k, v := range env {
		out[k] = v
	}
	return out
}

func (r running) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if job, err := r.client.Stop(ctx, r.unit.Name); err == nil {
		if err := job.Wait(ctx); err != nil {
			r.t.Errorf("stop: %v", err)
		}
	}
	r.client.ResetFailed(ctx, r.unit.Name)
	r.client.Unref(ctx, r.unit.Name)
}

// errTry is that the sandbox forbade it.
var errTry = errors.New("in the sandbox")

// try makes the engine do something, and returns its output and what forbade it.
func (r running) try(what, on string) (string, error) {
	r.t.Helper()
	q := url.Values{"what": {what}, "on": {on}}
	resp, err := clientOf(r.socket()).Get(render.Endpoint(r.in.Port) + "/try?" + q.Encode())
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%w: %s", errTry, body)
	}
	return string(body), nil
}

// socket is where an engine without a network listens; "": it has one.
func (r running) socket() string {
	if r.in.Pool.Sandbox.Network != pool.NetworkNone {
		return ""
	}
	instance := strings.TrimSuffix(strings.TrimPrefix(r.unit.Name, "pool-engine@"), ".service")
	return "/run/pool-engine/" + instance + "/engine.sock"
}

func fetchReport(t *testing.T, port int) report {
	t.Helper()
	resp, err := http.Get(render.Endpoint(port) + "/report")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var r report
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r running) report() report { r.t.Helper(); return fetchReport(r.t, r.in.Port) }

// arguments are those that the engine must have been given.
func (r running) arguments() []string {
	at := engine.Instance{Model: r.in.Staged.Path, Host: render.Loopback, Port: r.in.Port}
	return append([]string{r.in.Prepared.Binary}, r.in.Adapter.Command(r.in.Pool, at).Args...)
}

// shell runs a script as root in the machine and returns all its output.
func shell(t *testing.T, script string) string {
	t.Helper()
	out, err := exec.Command("sh", "-euc", script).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// eventually waits for something that PID 1 does in its own time: in an emulated machine on a busy
// host one start took 45 s.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if done() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// oddPath holds what a path may hold and is still kept.
const oddPath = "/srv/odd/a%d$e,f;g(h)-é.gguf"

// nasty holds an argument of every kind that some layer could take for its own.
var nasty = []string{"--chat-template", chatTemplate, "", ";", "a;b", "'", `"`, "%h", "$$", "\\", "é", "-", "--",
	"a\x7fb\x01c", "{}"}

// TestMachineArguments: the engine gets its arguments and environment byte by byte, also when PID 1
// starts it from the drop-in that it wrote itself, after a daemon-reload.
func TestMachineArguments(t *testing.T) {
	w := enter(t)
	put(t, "/srv/models/llama3.gguf", "GGUF", 0o644)
	r := w.start(t, input(args(nasty...), with(func(p *pool.Pool) {
		p.Env = map[string]string{"PROMPT": chatTemplate, "EMPTY": "", "SPACE": " a  b "}
		p.Restart.Initial = 100 * time.Millisecond
	})))
	check := func(when string) {
		t.Helper()
		got := r.report()
		if !slices.Equal(got.Args, r.arguments()) {
			t.Errorf("%s: arguments\n%q, want\n%q", when, got.Args, r.arguments())
		}
		for _, want := range []string{"PROMPT=" + chatTemplate, "EMPTY=", "SPACE= a  b ", "CUDA_VISIBLE_DEVICES=",
			"CUDA_DEVICE_ORDER=PCI_BUS_ID", "HOME=/var/lib/pool-engine/llama3.r0"} {
			if !slices.Contains(got.Env, want) {
				t.Errorf("%s: no %q in the environment %q", when, want, got.Env)
			}
		}
		if got.Dir != "/var/lib/private/pool-engine/llama3.r0" && got.Dir != "/var/lib/pool-engine/llama3.r0" {
			t.Errorf("%s: working directory %q", when, got.Dir)
		}
		if got.UID < 61184 || got.UID > 65519 { // the range of dynamic users, systemd's UIDS-GIDS
			t.Errorf("%s: uid %d", when, got.UID)
		}
	}
	check("first start")
	shell(t, "systemctl daemon-reload")
	status, err := r.client.Unit(t.Context(), r.unit.Name)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(status.MainPID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine runs again", func() bool {
		s, err := r.client.Unit(t.Context(), r.unit.Name)
		return err == nil && s.ActiveState == "active" && s.MainPID > 0 && s.MainPID != status.MainPID &&
			s.NRestarts == 1
	})
	check("restart after daemon-reload")
}

// TestMachineShows: a model is seen wherever it lies, read-only, and so is an engine in a home.
func TestMachineShows(t *testing.T) {
	w := enter(t)
	for _, path := range []string{
		"/srv/models/llama3.gguf", "/home/ann/models/a.gguf", "/root/a.gguf", "/mnt/disk/a.gguf", "/tmp/models/a.gguf", "/var/tmp/a.gguf",
		"/data/private/a.gguf", "/opt/models/a.gguf", "/var/lib/models/a.gguf", "/var/cache/pool-managerd/models/a.gguf",
		"/usr/share/models/a.gguf", "/a.gguf",
		oddPath,
	} {
		t.Run(strings.ReplaceAll(strings.Trim(path, "/"), "/", "_"), func(t *testing.T) {
			put(t, path, "GGUF of "+path, 0o644)
			if dir := filepath.Dir(path); strings.HasPrefix(path, "/srv") || strings.HasPrefix(path, "/home") ||
				strings.HasPrefix(path, "/data") {
				if err := os.Chmod(dir, 0o700); err != nil { // the engine's user has no right on the parent
					t.Fatal(err)
				}
			}
			r := w.start(t, input(modelAt(path)))
			check := func(when string) {
				if got, err := r.try("read", path); err != nil || got != "GGUF of "+path {
					t.Errorf("%s: read the model: %q, %v", when, got, err)
				}
				if _, err := r.try("write", path); err == nil {
					t.Errorf("%s: the model can be written", when)
				}
				if _, err := r.try("write", filepath.Dir(path)+"/more"); err == nil &&
					!strings.HasPrefix(path, "/tmp") && !strings.HasPrefix(path, "/var/tmp") {
					t.Errorf("%s: a file can be written beside the model", when)
				}
			}
			check("first start")
			shell(t, "systemctl daemon-reload; systemctl restart '"+r.unit.Name+"'")
			check("restart after daemon-reload")
		})
	}
	t.Run("binary_in_home", func(t *testing.T) {
		shell(t, "mkdir -p /home/ann/llama/bin && chmod 700 /home/ann && cp "+stubPath+
			" /home/ann/llama/bin/llama-server && echo secret >/home/ann/secret")
		r := w.start(t, input(func(in *render.Input) {
			in.Prepared.Binary = "/home/ann/llama/bin/llama-server"
			in.Prepared.ReadOnly = []string{"/home/ann/llama/bin"}
		}))
		if got, err := r.try("list", "/home/ann"); err != nil || got != "llama" {
			t.Errorf("the home holds %q, %v; want the engine's directory alone", got, err)
		}
	})
	t.Run("sharded_model", func(t *testing.T) {
		shards := []string{"/srv/models/big-00001-of-00002.gguf", "/srv/models/big-00002-of-00002.gguf"}
		for _, s := range shards {
			put(t, s, "shard", 0o644)
		}
		r := w.start(t, input(modelAt(shards[0], shards...)))
		if got, err := r.try("list", "/srv/models"); err != nil ||
			got != "big-00001-of-00002.gguf big-00002-of-00002.gguf" {
			t.Errorf("/srv/models holds %q, %v", got, err)
		}
	})
	t.Run("directory", func(t *testing.T) {
		put(t, "/srv/repository/m/1/model.bin", "weights", 0o644)
		r := w.start(t, input(modelAt("/srv/repository")))
		if got, err := r.try("read", "/srv/repository/m/1/model.bin"); err != nil || got != "weights" {
			t.Errorf("read: %q, %v", got, err)
		}
	})
}
