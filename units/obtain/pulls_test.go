package obtain

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// keeping is a host whose Pulls begin and end with a manager.
type keeping struct {
	*host
	settings egress.Settings
	denied   string // beginning of references that the policy forbids
	gate     chan struct{}
	log      bytes.Buffer // of the managers
}

func newKeeping(t *testing.T) *keeping {
	k := &keeping{host: newHost(t), gate: make(chan struct{})}
	k.settings = k.host.settings()
	k.run = func(ctx context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
		print(wire.Event{Kind: wire.Progress, Bytes: 1, Total: 4})
		select {
		case <-k.gate:
			return finish(t, r, print)
		case <-ctx.Done():
			return systemd.Status{}, ctx.Err()
		}
	}
	return k
}

// manager starts a manager; stop ends it.
func (k *keeping) manager() (p *Pulls, stop func()) {
	o, end := k.begin(k.settings)
	log := slog.New(slog.NewTextHandler(&k.log, nil))
	p = NewPulls(o, PullOptions{File: filepath.Join(k.dir, "state", "pulls.json"), Log: log,
		Allowed: func(ref modelref.Ref) *registry.Failure {
			if k.denied != "" && strings.HasPrefix(ref.String(), k.denied) {
				return registry.Fail(registry.CodePolicyDenied, "not allowed", "Allow it.")
			}
			return nil
		}})
	ctx, cancel := context.WithCancel(k.t.Context())
	ended := make(chan struct{})
	go func() { p.Run(ctx); close(ended) }()
	stop = func() { cancel(); <-ended; end() }
	k.t.Cleanup(stop)
	return p, stop
}

// is fails unless the one download has a state.
func (k *keeping) is(p *Pulls, state registry.DownloadState) registry.Download {
	k.t.Helper()
	synctest.Wait()
	list := p.List()
	if len(list) != 1 || list[0].State != state {
		k.t.Fatalf("downloads %+v, want one that is %s", list, state)
	}
	return list[0]
}

const tiny = "hf:acme/tiny/tiny.gguf"

// TestPull: what an operator asked for is downloaded, once, and is kept over a restart of the
// manager until it is whole.
func TestPull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t)
		p, stop := k.manager()
		asked := registry.WithCorrelation(t.Context(), "request-1")
		for range 2 {
			if d, err := p.Ask(asked, want(t, tiny), "uid:0"); err != nil || d.State.Ended() {
				t.Fatalf("%+v, %v", d, err)
			}
		}
		time.Sleep(2 * lookEvery)
		if d := k.is(p, registry.DownloadRunning); d.Progress == nil || d.Progress.Bytes != 1 || d.By != "uid:0" {
			t.Errorf("%+v", d)
		}
		stop()
		if runs, stopped := k.seen(); runs != 1 || len(stopped) != 0 {
			t.Errorf("%d runs, stopped %q", runs, stopped)
		}
		p, _ = k.manager()
		k.is(p, registry.DownloadRunning)
		close(k.gate)
		time.Sleep(2 * lookEvery)
		d := k.is(p, registry.DownloadDone)
		if _, err := os.Stat(d.Path); err != nil || d.Progress != nil || d.Failure != nil {
			t.Errorf("%+v, %v", d, err)
		}
		if _, err := os.Stat(p.opt.File); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still remembered: %v", err)
		}
		if !strings.Contains(k.log.String(), `msg="a model was downloaded" model_id=`+tiny+
			` identity=uid:0 correlation_id=request-1 path=`) {
			t.Errorf("log without who asked for it:\n%s", &k.log)
		}
		d, err := p.Ask(t.Context(), want(t, tiny), "uid:0")
		if err != nil || d.State != registry.DownloadDone || d.Path == "" {
			t.Errorf("what is there: %+v, %v", d, err)
		}
	})
}

// TestPullCancelled: its unit is stopped, and what was asked for is forgotten.
func TestPullCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t)
		p, _ := k.manager()
		if _, err := p.Ask(t.Context(), want(t, tiny), "uid:0"); err != nil {
			t.Fatal(err)
		}
		k.is(p, registry.DownloadRunning)
		if d, err := p.Cancel(want(t, tiny).Ref); err != nil || d.State != registry.DownloadCancelled {
			t.Fatalf("%+v, %v", d, err)
		}
		time.Sleep(abandonAfter + time.Second)
		if _, stopped := k.seen(); len(stopped) != 1 {
			t.Errorf("stopped %q", stopped)
		}
		if _, err := os.Stat(p.opt.File); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it is still remembered: %v", err)
		}
		_, err := p.Cancel(want(t, tiny).Ref)
		if f := registry.AsFailure(err, "", ""); f == nil || f.Code != registry.CodeModelNotFound {
			t.Errorf("cancelled twice: %v", err)
		}
		if d, err := p.Ask(t.Context(), want(t, tiny), "uid:0"); err != nil || d.State != registry.DownloadQueued {
			t.Errorf("asked for again: %+v, %v", d, err)
		}
		close(k.gate)
		time.Sleep(time.Minute)
		k.is(p, registry.DownloadDone)
	})
}

// TestPullFails: what may pass is tried again for as long as it takes, what will not ends it.
func TestPullFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t)
		var broken atomic.Bool
		broken.Store(true)
		k.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			switch {
			case strings.HasSuffix(r.Ref, "gone.gguf"):
				return failing(print, wire.Event{Reason: wire.NotFound, Message: "no such file"})
			case broken.Load():
				return failing(print, wire.Event{Reason: wire.Network, Message: "the network is away"})
			}
			return finish(t, r, print)
		}
		p, _ := k.manager()
		if _, err := p.Ask(t.Context(), want(t, tiny), "uid:0"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(6 * time.Hour)
		if d := k.is(p, registry.DownloadRunning); d.Progress == nil || !strings.Contains(d.Progress.Note, "away") {
			t.Errorf("%+v", d)
		}
		broken.Store(false)
		time.Sleep(pullLast + time.Minute)
		k.is(p, registry.DownloadDone)
		if _, err := p.Ask(t.Context(), want(t, "hf:acme/tiny/gone.gguf"), "uid:0"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for _, d := range p.List() {
			if strings.HasSuffix(d.Model, "gone.gguf") && (d.State != registry.DownloadFailed ||
				d.Failure == nil || d.Failure.Code != registry.CodeModelNotFound) {
				t.Errorf("%+v", d)
			}
		}
	})
}

// TestPullPolicy: without the host's leave nothing is begun, and what was begun goes no further
// after a restart.
func TestPullPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t)
		p, stop := k.manager()
		for _, ref := range []string{"https://files.example/a.gguf", "s3://bucket/a.gguf"} {
			_, err := p.Ask(t.Context(), want(t, ref), "uid:0")
			if f := registry.AsFailure(err, "", ""); f == nil || f.Hint == "" {
				t.Errorf("%s: %v", ref, err)
			}
		}
		if len(p.List()) != 0 {
			t.Errorf("downloads %+v", p.List())
		}
		if _, err := p.Ask(t.Context(), want(t, tiny), "uid:0"); err != nil {
			t.Fatal(err)
		}
		k.is(p, registry.DownloadRunning)
		stop()
		k.denied = "hf:acme/"
		p, _ = k.manager()
		if d := k.is(p, registry.DownloadFailed); d.Failure.Code != registry.CodePolicyDenied {
			t.Errorf("%+v", d)
		}
		if _, err := p.Ask(t.Context(), want(t, tiny), "uid:0"); err == nil {
			t.Error("it is asked for again")
		}
	})
}

// TestPrefetch: models that pools will change to are downloaded as long as their files name them.
func TestPrefetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newKeeping(t)
		p, _ := k.manager()
		ref := want(t, tiny).Ref
		p.Prefetch(map[modelref.Ref][]string{ref: {"b", "a"}})
		if d := k.is(p, registry.DownloadRunning); strings.Join(d.Pools, " ") != "a b" || d.By != "" {
			t.Errorf("%+v", d)
		}
		if _, err := p.Cancel(ref); err == nil {
			t.Error("no operator asked for it, and it was cancelled")
		}
		if _, err := os.Stat(p.opt.File); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("pool files are remembered already: %v", err)
		}
		if _, err := p.Ask(t.Context(), want(t, tiny), "uid:0"); err != nil {
			t.Fatal(err)
		}
		if d, err := p.Cancel(ref); err != nil || d.State.Ended() {
			t.Errorf("the pools still want it: %+v, %v", d, err)
		}
		p.Prefetch(nil)
		time.Sleep(abandonAfter + time.Second)
		if _, stopped := k.seen(); len(stopped) != 1 || len(p.List()) != 0 {
			t.Errorf("stopped %q, downloads %+v", stopped, p.List())
		}
		p.Prefetch(map[modelref.Ref][]string{ref: {"a"}})
		close(k.gate)
		time.Sleep(2 * lookEvery)
		k.is(p, registry.DownloadDone)
	})
}

// TestPullFile: a file that is damaged is set aside, and lines that make no sense are left out.
func TestPullFile(t *testing.T) {
	for name, c := range map[string]struct {
		text        string
		begun, left int
	}{
		"nothing":       {"", 0, 1},
		"no_json":       {"{", 0, 1},
		"of_this_host":  {`[{"model":"file:/etc/passwd","by":"uid:0"}]`, 0, 0},
		"no_reference":  {`[{"model":"x","by":"uid:0"},{"model":"hf:a/b","by":"uid:0"}]`, 1, 0},
		"asked_by_none": {`[{"model":"hf:a/b"}]`, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKeeping(t)
				dir := filepath.Join(k.dir, "state")
				if err := errors.Join(os.Mkdir(dir, 0o700),
					os.WriteFile(filepath.Join(dir, "pulls.json"), []byte(c.text), 0o600)); err != nil {
					t.Fatal(err)
				}
				p, _ := k.manager()
				synctest.Wait()
				aside, err := filepath.Glob(filepath.Join(dir, "*.damaged-*"))
				if len(p.List()) != c.begun || len(aside) != c.left || err != nil {
					t.Errorf("downloads %+v, set aside %q (%v)", p.List(), aside, err)
				}
			})
		})
	}
}
