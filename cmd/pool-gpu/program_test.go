package main

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/cmd/cmdline"
	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/client"
	"github.com/pool-managerd/pool-managerd/nvml/serve"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/test/fakenvml"
)

// built are the program and the fake libraries, made once for all tests.
var built struct {
	dir, program, library, old, empty string
}

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "pool-gpu-")
		if err == nil {
			defer os.RemoveAll(dir)
			err = build(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		flag.Parse()
		if err := flag.Set("test.parallel", together); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// together is how many tests run at once: each mostly waits for a helper and its driver.
const together = "16"

// build links the program as the package does.
func build(dir string) error {
	ctx := context.Background()
	built.dir, built.program = dir, filepath.Join(dir, "pool-gpu")
	goBuild := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-buildmode=pie", "-o", built.program,
		"-ldflags", `-s -w -X main.version=1.2.3-test -linkmode=external -extldflags "-Wl,-z,relro -Wl,-z,lazy"`, ".")
	goBuild.Env = append(os.Environ(), "CGO_ENABLED=1", "GOFLAGS=")
	if out, err := goBuild.CombinedOutput(); err != nil {
		return fmt.Errorf("build pool-gpu: %w\n%s", err, out)
	}
	for _, l := range []struct {
		name string
		old  bool
		path *string
	}{{"new", false, &built.library}, {"old", true, &built.old}} {
		var err error
		at := filepath.Join(dir, l.name)
		if err := os.Mkdir(at, 0o755); err != nil {
			return err
		}
		if *l.path, err = fakenvml.Build(ctx, at, l.old); err != nil {
			return err
		}
	}
	built.empty = filepath.Join(dir, "empty.so")
	cc := exec.Command("cc", "-shared", "-fPIC", "-x", "c", "-", "-o", built.empty)
	cc.Stdin = strings.NewReader("int nvmlInit_v2(void) { return 0; }\n")
	if out, err := cc.CombinedOutput(); err != nil {
		return fmt.Errorf("an empty library: %w\n%s", err, out)
	}
	return nil
}

// helper is a pool-gpu that runs, with a fake driver of its own.
type helper struct {
	t      *testing.T
	dir    string // of the fake driver's state
	socket string
	cmd    *exec.Cmd
	ended  chan struct{}
	stderr *output
}

type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}
func (o *output) String() string { o.mu.Lock(); defer o.mu.Unlock(); return o.text.String() }

func start(t *testing.T, library string, state *fakenvml.State) *helper {
	t.Helper()
	dir := t.TempDir()
	h := &helper{t: t, dir: dir, socket: filepath.Join(dir, "s"), ended: make(chan struct{}), stderr: new(output)}
	if state != nil {
		h.set(*state)
	}
	h.cmd = exec.Command(built.program, "--library", library, "--socket", h.socket)
	h.cmd.Env = append(os.Environ(), "FAKENVML_DIR="+dir)
	h.cmd.Stderr = h.stderr
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { defer close(h.ended); _ = h.cmd.Wait() }()
	t.Cleanup(func() {
		_ = h.cmd.Process.Kill()
		<-h.ended
		if t.Failed() {
			t.Logf("pool-gpu said:\n%s", h.stderr)
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if c, err := net.Dial("unix", h.socket); err == nil {
			c.Close()
			return h
		}
		if time.Now().After(deadline) {
			t.Fatalf("pool-gpu does not listen\n%s", h.stderr)
		}
	}
}

func (h *helper) set(s fakenvml.State) {
	h.t.Helper()
	if err := s.Write(h.dir); err != nil {
		h.t.Fatal(err)
	}
}

func (h *helper) ask(req wire.Request) (wire.Reply, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return client.Ask(ctx, h.socket, req)
}

func (h *helper) snapshot() *nvml.Snapshot {
	h.t.Helper()
	r, err := h.ask(wire.Request{Op: wire.OpSnapshot})
	if err != nil {
		h.t.Fatalf("%v\n%s", err, h.stderr)
	}
	return r.Snapshot
}

// follow delivers what the daemon's own client makes of the helper.
func (h *helper) follow() <-chan nvml.Update {
	ctx, cancel := context.WithCancel(context.Background())
	updates := make(chan nvml.Update, 256)
	var done sync.WaitGroup
	done.Go(func() {
		_ = client.New(client.Options{Socket: h.socket, Interval: 250 * time.Millisecond}).Follow(ctx,
			func(u nvml.Update) {
				updates <- u
			})
	})
	h.t.Cleanup(func() { cancel(); done.Wait() })
	return updates
}

// until waits for an update that is what the test is about.
func until(t *testing.T, updates <-chan nvml.Update, what string, ok func(nvml.Update) bool) nvml.Update {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for {
		select {
		case u := <-updates:
			if ok(u) {
				return u
			}
		case <-timeout:
			t.Fatalf("no %s came", what)
		}
	}
}

// status waits for the end and returns the exit status.
func (h *helper) status() int {
	h.t.Helper()
	select {
	case <-h.ended:
		return h.cmd.ProcessState.ExitCode()
	case <-time.After(90 * time.Second):
		h.t.Fatal("pool-gpu does not end")
		return -1
	}
}

func TestLink(t *testing.T) {
	file, err := elf.Open(built.program)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if flags, err := file.DynValue(elf.DT_FLAGS); err != nil || len(flags) > 0 &&
		elf.DynFlag(flags[0])&elf.DF_BIND_NOW != 0 {
		t.Errorf("DT_FLAGS is %v (%v): every function would be bound at the start, and there are none", flags, err)
	}
	if flags, _ := file.DynValue(elf.DT_FLAGS_1); len(flags) > 0 && elf.DynFlag1(flags[0])&elf.DF_1_NOW != 0 {
		t.Errorf("DT_FLAGS_1 is %v, which has NOW", flags)
	}
	if now, _ := file.DynValue(elf.DT_BIND_NOW); len(now) > 0 {
		t.Error("there is a DT_BIND_NOW")
	}
	if file.Type != elf.ET_DYN {
		t.Errorf("type %v, want one that can lie anywhere", file.Type)
	}
	libraries, err := file.ImportedLibraries()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range libraries {
		if strings.Contains(l, "nvidia") {
			t.Errorf("it needs %s at the start", l)
		}
	}
}

func TestVersion(t *testing.T) {
	out, err := exec.Command(built.program, "--version").CombinedOutput()
	if err != nil || string(out) != "pool-gpu 1.2.3-test\n" {
		t.Errorf("%v: %q", err, out)
	}
}

func TestWrongUse(t *testing.T) {
	for _, c := range []struct {
		name   string
		args   []string
		status int
		want   string
	}{
		{"unknown_flag", []string{"--nonsense"}, cmdline.Usage, "nonsense"},
		{"argument", []string{"start"}, cmdline.Usage, `unexpected argument "start"`},
		{"no_socket", nil, exitFailed, "--socket PATH runs it by hand"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := exec.Command(built.program, c.args...).CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != c.status || !strings.Contains(string(out), c.want) {
				t.Errorf("%v: %q; want status %d and %q", err, out, c.status, c.want)
			}
		})
	}
}

func TestStatus(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"asked_to_end", nil, exitOK},
		{"driver_was_replaced", serve.ErrMismatch, exitReplaced},
		{"driver_hangs", &serve.HungError{Call: "nvmlInit_v2"}, exitHung},
		{"anything_else", errors.New("no"), exitFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := status(c.err, io.Discard); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
}

func TestEnd(t *testing.T) {
	t.Parallel()
	state := fakenvml.Default(2, 24<<30)
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(strings.ReplaceAll(signal.String(), " ", "_"), func(t *testing.T) {
			t.Parallel()
			h := start(t, built.library, &state)
			updates := h.follow()
			until(t, updates, "snapshot", func(u nvml.Update) bool { return u.Snapshot != nil })
			if err := h.cmd.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			if status := h.status(); status != exitOK {
				t.Errorf("exit status %d\n%s", status, h.stderr)
			}
		})
	}
}

// TestActivation hands over a listener as PID 1 does.
func TestActivation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h := &helper{t: t, socket: filepath.Join(dir, "s"), stderr: new(output)}
	l, err := listen(h.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	file, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	cmd := exec.Command("sh", "-c", `LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=gpu exec "$0" --library /none`,
		built.program)
	cmd.ExtraFiles, cmd.Stderr = []*os.File{file}, h.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	if s := h.snapshot(); s.Driver.Problem == nil || s.Driver.Problem.Kind != nvml.ProblemNoLibrary {
		t.Errorf("got %+v", s.Driver)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("end: %v\n%s", err, h.stderr)
	}
	if _, err := os.Stat(h.socket); err != nil {
		t.Errorf("it removed the socket of PID 1: %v", err)
	}
}
