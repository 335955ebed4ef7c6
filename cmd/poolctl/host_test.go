package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
)

// clock is the time in every test: one minute after the last event of the pools below.
var clock = time.UnixMilli(1_700_000_060_000)

const secret = "0123456789abcdef"

// units renders every pool but those that cannot be.
type units struct{}

func (units) RenderUnit(_ context.Context, id string) (string, error) {
	if id == "phi" {
		return "", registry.Fail(registry.CodeModelNotFound, "/srv/models/phi.gguf: no such file", "Copy the model there, or correct model in phi.toml.")
	}
	return "# pool-engine@" + id + ".r0.service\n[Service]\nType=exec\nExecStart=/usr/bin/llama-server \x1b]0;title\a\n", nil
}

// host is a real API server on a unix socket and on TCP.
type host struct {
	t      *testing.T
	reg    *registry.Registry
	socket string
	url    string
	token  string // file
}

func newHost(t *testing.T) *host {
	t.Helper()
	h := &host{t: t, reg: registry.New(), socket: filepath.Join(t.TempDir(), "api.sock"), token: filepath.Join(t.TempDir(), "token")}
	if err := os.WriteFile(h.token, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server, err := api.New(api.Options{Registry: h.reg, Backend: units{}, Version: "1.2.3",
		Settings: api.Settings{TokenFile: h.token}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ul, err := net.Listen("unix", h.socket)
	if err != nil {
		t.Fatal(err)
	}
	tl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h.url = "http://" + tl.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, ul, tl) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return h
}

// result is what a command did.
type result struct {
	code        int
	out, errOut string
}

// poolctl runs a command line as main does.
func poolctl(ctx context.Context, args ...string) result {
	var out, errOut syncBuffer
	a := &app{out: &out, err: &errOut, now: func() time.Time { return clock }, every: 5 * time.Millisecond, journalctl: "journalctl"}
	code := run(ctx, a, args)
	return result{code, out.String(), errOut.String()}
}

// run runs a command line against the host's socket.
func (h *host) run(args ...string) result {
	h.t.Helper()
	return poolctl(h.t.Context(), append(args, "--socket", h.socket)...)
}

// fill puts one pool of each kind into the registry.
func (h *host) fill() {
	at := func(s int) time.Time { return time.UnixMilli(1_700_000_000_000).Add(time.Duration(s) * time.Second) }
	put := func(p registry.Pool) { h.reg.Put(registry.Aggregate(p)) }
	put(registry.Pool{ID: "gemma", Engine: "llamacpp", ModelID: "file:/srv/models/gemma-2b-q4.gguf", Wanted: true, Replicas: []registry.Replica{
		{ID: "r0", State: registry.StateReady, Live: true, Ready: true, Reason: "the engine answers", Unit: "pool-engine@gemma.r0.service",
			Endpoint: "http://127.0.0.1:21000", PID: 4711, InvocationID: "ab12ab12ab12ab12ab12ab12ab12ab12", SpecHash: "0123456789ab-ba9876543210",
			DeviceMask: []string{"0"}, EngineVersion: "b5000", SlotsTotal: 4, SlotsFree: 4, Since: at(-7000), LastHeartbeat: at(57)},
	}})
	put(registry.Pool{ID: "llama3-8b", Engine: "llamacpp", ModelID: "file:/srv/models/llama3-8b-q4.gguf", Wanted: true, Replicas: []registry.Replica{
		{ID: "r0", State: registry.StateReady, Live: true, Ready: true, Reason: "the engine answers", Unit: `pool-engine@llama3\x2d8b.r0.service`,
			Endpoint: "http://127.0.0.1:21001", PID: 815, DeviceMask: []string{"0"}, EngineVersion: "b5000", SlotsTotal: 4, SlotsFree: 3,
			Since: at(-86400 * 3), LastHeartbeat: at(58)},
		{ID: "r1", State: registry.StateBackoff, Reason: "the engine crashed; PID 1 will start it again", Unit: `pool-engine@llama3\x2d8b.r1.service`,
			Endpoint: "http://127.0.0.1:21002", DeviceMask: []string{"1"}, EngineVersion: "b5000", SlotsTotal: 4, RestartCount: 3, Backoff: 5100 * time.Millisecond,
			Since: at(59), LastError: registry.Fail(registry.CodeEngineCrashed, "exited with status 1", "Read the engine's log: poolctl logs llama3-8b")},
	}})
	put(registry.Pool{ID: "phi", Engine: "llamacpp", ModelID: "file:/srv/models/phi.gguf", Wanted: true, Replicas: []registry.Replica{
		{ID: "r0", State: registry.StateFailed, Reason: "the engine could not be prepared", Unit: "pool-engine@phi.r0.service", Since: at(0),
			LastError: registry.Fail(registry.CodeModelNotFound, "/srv/models/phi.gguf: no such file", "Copy the model there, or correct model in phi.toml.")},
	}})
	put(registry.Pool{ID: "typo", LastError: registry.Fail(registry.CodeConfigInvalid, "typo.toml:3:1: unknown key slotz", "Did you mean slots?")})
	h.reg.SetProblems([]registry.Problem{
		{File: "/etc/pool-managerd/pools.d/a b.toml", Text: `/etc/pool-managerd/pools.d/a b.toml: the file's name is no pool id`, Hint: "Rename the file, or give it an id."},
		{File: "/etc/pool-managerd/pools.d/typo.toml", PoolID: "typo", Text: "typo.toml:3:1: unknown key slotz", Hint: "Did you mean slots?"},
	})
}

// syncBuffer may be read while a command writes.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

var errBroken = errors.New("broken pipe")

// brokenPipe is an output that is closed.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }
