package obtain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// host stands in for PID 1 and the units that it runs, of which each acts as run says.
type host struct {
	t        *testing.T
	dir      string
	mu       sync.Mutex
	requests []wire.Request
	props    [][]systemd.Property
	resolved [][]string
	stopped  []string
	reasons  []string
	outcomes []Outcome
	peers    []string // hosts of the fleet that have each model
	// run is one run of a download: it appends to the output, and returns how the unit ended.
	run func(ctx context.Context, n int, r wire.Request, print func(wire.Event)) (systemd.Status, error)
	// unresolved are names without an address.
	unresolved []string
}

func value(props []systemd.Property, name string) any {
	for _, p := range props {
		if p.Name == name {
			return p.Value
		}
	}
	return nil
}

func (h *host) RunDetached(
	ctx context.Context,
	unit string,
	props []systemd.Property,
	fresh func() error,
) (systemd.Status, error) {
	if err := fresh(); err != nil {
		h.t.Error(err)
	}
	var r wire.Request
	if err := json.Unmarshal(value(props, "StandardInputData").([]byte), &r); err != nil {
		h.t.Error(err)
	}
	if err := r.Check(); err != nil {
		h.t.Errorf("pool-fetch would refuse the request: %v", err)
	}
	h.mu.Lock()
	h.requests, h.props = append(h.requests, r), append(h.props, props)
	n := len(h.requests)
	h.mu.Unlock()
	output := value(props, "StandardOutputFileToAppend").(string)
	return h.run(ctx, n, r, func(e wire.Event) {
		f, err := os.OpenFile(output, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			_, err = f.Write(e.Append(nil))
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			h.t.Error(err)
		}
	})
}

func (h *host) RunCapture(
	_ context.Context,
	_ string,
	props []systemd.Property,
	_ int,
) ([]byte, systemd.Status, error) {
	names := value(props, "ExecStartEx").([]systemd.ExecCommand)[0].Args[2:]
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resolved = append(h.resolved, names)
	found := make(map[string][]string)
	for i, n := range names {
		if slices.Contains(h.unresolved, n) {
			return wire.Event{
				Kind:    wire.Failed,
				Reason:  wire.Network,
				Message: "could not resolve " + n,
			}.Append(
				nil,
			), systemd.Status{}, nil
		}
		found[n] = []string{fmt.Sprintf("203.0.113.%d", i+1)}
	}
	return wire.Event{Kind: wire.Hosts, Hosts: found}.Append(nil), systemd.Status{}, nil
}

func (h *host) Stop(_ context.Context, unit string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stopped = append(h.stopped, unit)
	return nil
}

// seen returns how many runs there were, and the units that were stopped.
func (h *host) seen() (runs int, stopped []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.requests), slices.Clone(h.stopped)
}

// settings allow what a host with egress = "fetch" allows.
func (h *host) settings() egress.Settings {
	return egress.Settings{
		CacheDir: filepath.Join(h.dir, "cache"),
		Endpoint: "https://hub.example",
		Egress:   egress.Fetch,
		Uses:     filepath.Join(h.dir, "uses"),
	}
}

// start runs an Obtainer on the host until the test ends.
func (h *host) start(s egress.Settings) *Obtainer {
	o, _ := h.begin(s)
	return o
}

// begin is start; stop ends the Obtainer.
func (h *host) begin(s egress.Settings) (o *Obtainer, stop func()) {
	o = New(
		Options{
			PID1:        h,
			Program:     "/pool-fetch",
			Output:      filepath.Join(h.dir, "out"),
			Log:         slog.New(slog.DiscardHandler),
			Nameservers: func() []netip.Addr { return []netip.Addr{netip.MustParseAddr("192.0.2.53")} },
			Ended: func(o Outcome) {
				h.mu.Lock()
				defer h.mu.Unlock()
				h.reasons, h.outcomes = append(h.reasons, o.Reason), append(h.outcomes, o)
			},
			Peers: func(context.Context, modelref.Ref) []string { return h.peers },
		},
	)
	o.Configure(s)
	ctx, cancel := context.WithCancel(h.t.Context())
	ended := make(chan struct{})
	go func() { o.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended }
	h.t.Cleanup(stop)
	return o, stop
}

func newHost(t *testing.T) *host { return &host{t: t, dir: t.TempDir()} }

// finish puts the model of a request into the cache, and reports it.
func finish(t *testing.T, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
	t.Helper()
	ref, err := modelref.Parse(r.Ref)
	if err != nil {
		t.Error(err)
	}
	dir := filepath.Join(r.CacheDir, r.Directory)
	path := filepath.Join(dir, "snapshots", "c0ffee", ref.Path)
	err = errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.MkdirAll(filepath.Join(dir, "blobs"), 0o755),
		os.MkdirAll(filepath.Join(dir, "refs"), 0o755),
		os.WriteFile(filepath.Join(dir, "blobs", "abc"), []byte("GGUF"), 0o644),
		os.WriteFile(filepath.Join(dir, "refs", "main"), []byte("c0ffee"), 0o644))
	if err := errors.Join(err, os.Symlink("../../blobs/abc", path)); err != nil {
		t.Error(err)
	}
	print(wire.Event{Kind: wire.Result, Path: path, Commit: "c0ffee", Bytes: 4, Files: 1})
	return systemd.Status{ActiveState: "inactive", ExecMainCode: 1}, nil
}

// failing prints an error.
func failing(print func(wire.Event), e wire.Event) (systemd.Status, error) {
	e.Kind = wire.Failed
	print(e)
	return systemd.Status{ActiveState: "failed", ExecMainCode: 1, ExecMainStatus: e.Reason.Exit()}, nil
}

func want(t *testing.T, text string) Want {
	t.Helper()
	ref, err := modelref.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return Want{Ref: ref}
}

func quiet(pool.Staging) {}
