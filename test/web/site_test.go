//go:build web

package web

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api"
	"github.com/pool-managerd/pool-managerd/registry/api/history"
	"github.com/pool-managerd/pool-managerd/registry/api/sockdiag"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/registry/registrytest"
)

// site is the real API over TCP, with a registry of the test.
type site struct {
	reg      *registry.Registry
	history  *history.Book
	operator *operator
	port     string
}

// url is an address of the site by one of its names.
func (s *site) url(host string) string { return "http://" + net.JoinHostPort(host, s.port) }

// serve starts a site, until the test ends. No tokens: callers on the loopback may do everything.
func serve(t *testing.T, tokens string) *site {
	t.Helper()
	s := &site{reg: registry.New(), operator: &operator{}}
	s.history = history.New(s.reg)
	settings := api.Settings{AuthOptional: tokens == ""}
	if tokens != "" {
		settings.TokenFile = filepath.Join(t.TempDir(), "tokens")
		if err := os.WriteFile(settings.TokenFile, []byte(tokens), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server, err := api.New(api.Options{Registry: s.reg, Backend: units{}, Operator: s.operator,
		History:  s.history,
		Settings: settings, Peers: peers{}, Version: "1.2.3", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, s.port, _ = net.SplitHostPort(l.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	recorded := make(chan struct{})
	go func() {
		defer close(recorded)
		s.history.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-recorded
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return s
}

// sample has the site show the sample host: pools in several states, and GPUs.
func (s *site) sample() {
	devices := registrytest.Devices()
	devices.Taken = time.Now()
	s.reg.SetDevices(devices)
	for _, p := range registrytest.OnGPUs(registrytest.Pools()) {
		s.reg.Put(p)
	}
}

// live has the sample host be in use for some minutes: leases come and go, and an engine crashes
// and is back.
func (s *site) live(minutes int) {
	for i := range 3 * minutes {
		p := registrytest.Llama()
		p.Replicas[0].ActiveLeases = []int{1, 3, 2, 4, 3, 4, 2, 1}[i/2%8]
		if i%9 > 6 {
			p.Replicas[0].State, p.Replicas[0].Ready = registry.StateBackoff, false
			p.Replicas[0].Reason = "the engine crashed; PID 1 will start it again"
		}
		for _, on := range registrytest.OnGPUs([]registry.Pool{registry.Aggregate(p)}) {
			s.reg.Put(on)
		}
		time.Sleep(20 * time.Second)
	}
	s.sample()
}

// many adds pools that serve.
func (s *site) many(n int) {
	for i := range n {
		s.reg.Put(serving(fmt.Sprintf("pool-%03d", i), i))
	}
}

func serving(id string, used int) registry.Pool {
	return registry.Aggregate(registry.Pool{ID: id, Engine: "llamacpp", ModelID: "hf:org/" + id, Wanted: true,
		Replicas: []registry.Replica{{ID: "r0", State: registry.StateReady, Live: true, Ready: true,
			Reason: "the engine answers", SlotsTotal: 8, SlotsFree: 8 - used%8, EngineVersion: "b6000"}}})
}

// crash has an engine end, as the loop of the manager reports it.
func (s *site) crash(id string, lines ...string) {
	f := registry.Fail(registry.CodeEngineCrashed, "the engine ended by SIGSEGV", "Read its last log lines.")
	f.Ending = &registry.Ending{Result: "signal", Signal: "SIGSEGV", Lines: lines}
	p := serving(id, 0)
	p.Replicas[0].State, p.Replicas[0].Ready, p.Replicas[0].LastError = registry.StateBackoff, false, f
	p.Replicas[0].Reason = "the engine ended, and is started again in 2s"
	p.LastError = f
	s.reg.Put(registry.Aggregate(p))
	s.reg.Note(registry.Event{Kind: registry.KindCrash, PoolID: id, ReplicaID: "r0", State: registry.StateBackoff,
		Cause: f.Message, Failure: f})
}

type units struct{}

func (units) RenderUnit(_ context.Context, id string) (string, error) {
	return "# pool-engine@" + id + ".r0.service\n[Service]\n# no network but the loopback\nPrivateNetwork=no\n", nil
}

// peers: every connection is of a user of this host.
type peers struct{}

func (peers) Peer(_, _ netip.AddrPort) (sockdiag.Owner, error) {
	return sockdiag.Owner{UID: 1000}, nil
}
func (peers) Engine(sockdiag.Owner) (bool, error) { return false, nil }

// operator notes what is asked of it.
type operator struct {
	mu    sync.Mutex
	asked []string
}

func (o *operator) note(format string, values ...any) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.asked = append(o.asked, fmt.Sprintf(format, values...))
	return nil
}

// took returns what was asked since the last call.
func (o *operator) took() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	all := o.asked
	o.asked = nil
	return all
}

func (o *operator) Drain(_ context.Context, id string, d time.Duration, _ string) error {
	return o.note("drain %s %s", id, d)
}

func (o *operator) DrainUntilRestart(_ context.Context, id string, d time.Duration, _ string) error {
	return o.note("drain %s %s, then restart", id, d)
}
func (o *operator) Resume(_ context.Context, id, _ string) error  { return o.note("resume %s", id) }
func (o *operator) Restart(_ context.Context, id, _ string) error { return o.note("restart %s", id) }

func (o *operator) Reset(_ context.Context, id, _ string) error {
	_ = o.note("reset %s", id)
	return registry.Fail(registry.CodeStateNotSaved, "<b>the disk is full</b>", "Free some space.")
}

func (o *operator) Reload(_ context.Context, id string, ask api.ReloadRequest) error {
	return o.note("reload %s %s %v", id, ask.Model, ask.Forget)
}

func (o *operator) Preload(context.Context, string, api.PreloadRequest) (wire.Preloaded, error) {
	return wire.Preloaded{}, o.note("preload")
}
func (o *operator) Unload(_ context.Context, id, _ string) error { return o.note("unload %s", id) }

func (o *operator) ReloadFiles(context.Context, bool, string) ([]registry.Problem, error) {
	return nil, o.note("reload files")
}
