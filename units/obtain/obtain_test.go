package obtain

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestObtain: a model is downloaded once, with the hosts pinned, and then it is there without a
// question to anyone.
func TestObtain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			print(wire.Event{Kind: wire.Plan, Total: 400, Present: 100})
			time.Sleep(2 * time.Second)
			print(wire.Event{Kind: wire.Progress, Bytes: 200, Rate: 50, File: "tiny.gguf"})
			time.Sleep(2 * time.Second)
			return finish(t, r, print)
		}
		o := h.start(h.settings())
		var mu sync.Mutex
		var shown []pool.Staging
		report := func(p pool.Staging) { mu.Lock(); shown = append(shown, p); mu.Unlock() }
		var all sync.WaitGroup
		for range 5 {
			all.Go(func() {
				got, err := o.Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), report)
				if err != nil || !strings.HasSuffix(got.Path, "/models--acme--tiny/snapshots/c0ffee/tiny.gguf") {
					t.Errorf("got %+v, %v", got, err)
				}
			})
		}
		all.Wait()
		if len(h.requests) != 1 {
			t.Fatalf("%d downloads for five that want the same", len(h.requests))
		}
		r := h.requests[0]
		if pins := r.Hosts["hub.example"]; len(r.Hosts) != 1 || !slices.Equal(pins, []string{"203.0.113.1"}) {
			t.Errorf("pinned %v", r.Hosts)
		}
		allowed := value(h.props[0], "IPAddressAllow").([]systemd.AddressPrefix)
		if len(allowed) != 1 || !slices.Equal(allowed[0].Address, []byte{203, 0, 113, 1}) {
			t.Errorf("the unit may connect to %v", allowed)
		}
		if !slices.Contains(shown, pool.Staging{Bytes: 200, Total: 400, Rate: 50, File: "tiny.gguf"}) {
			t.Errorf("progress was shown as %+v", shown)
		}
		if _, err := o.Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), quiet); err != nil ||
			len(h.requests) != 1 {
			t.Errorf("a model that is there: %v, %d downloads", err, len(h.requests))
		}
		if _, err := os.Stat(filepath.Join(h.dir, "uses", "models--acme--tiny")); err != nil {
			t.Errorf("its use is not noted: %v", err)
		}
	})
}

// TestRetries: what may pass is tried again, as late as the source asks, as long as there is
// progress; what may not is reported, and not asked for again for a while.
func TestRetries(t *testing.T) {
	again := wire.Event{Reason: wire.Network, Message: "cut"}
	cases := []struct {
		name   string
		run    func(n int, r wire.Request, print func(wire.Event), t *testing.T) (systemd.Status, error)
		runs   int
		took   time.Duration // at least
		code   registry.Code // empty: it arrives
		says   string
		reason string // of the first run
	}{
		{"cut_once", func(n int, r wire.Request, print func(wire.Event), t *testing.T) (systemd.Status, error) {
			if n == 1 {
				return failing(print, again)
			}
			return finish(t, r, print)
		}, 2, pauseFirst, "", "", "network"},
		{"asked_to_wait", func(n int, r wire.Request, print func(wire.Event), t *testing.T) (systemd.Status, error) {
			if n == 1 {
				return failing(print, wire.Event{Reason: wire.RateLimited, Message: "slowly", RetryAfterMS: 90_000})
			}
			return finish(t, r, print)
		}, 2, 90 * time.Second, "", "", "rate_limited"},
		{"never_arrives", func(_ int, _ wire.Request, print func(wire.Event), _ *testing.T) (systemd.Status, error) {
			return failing(print, again)
		}, triesMost, 30 * time.Second, registry.CodeProvisionFailed, "cut", "network"},
		{
			"killed_and_each_time_further",
			func(n int, r wire.Request, print func(wire.Event), t *testing.T) (systemd.Status, error) {
				if n > 3*triesMost {
					return finish(t, r, print)
				}
				print(wire.Event{Kind: wire.Progress, Bytes: int64(n), Total: 100})
				return systemd.Status{ActiveState: "failed", ExecMainCode: 2, ExecMainStatus: 9}, nil
			},
			3*triesMost + 1,
			0,
			"",
			"",
			"killed",
		},
		{
			"the_bus_is_restarted",
			func(n int, r wire.Request, print func(wire.Event), t *testing.T) (systemd.Status, error) {
				if n == 1 {
					return systemd.Status{}, systemd.ErrDisconnected
				}
				return finish(t, r, print)
			},
			2,
			0,
			"",
			"",
			"manager",
		},
		{"not_there", func(_ int, _ wire.Request, print func(wire.Event), _ *testing.T) (systemd.Status, error) {
			return failing(
				print,
				wire.Event{Reason: wire.NotFound, Message: "no file tiny.gguf", Hint: "It has big.gguf."},
			)
		}, 1, 0, registry.CodeModelNotFound, "no file tiny.gguf", "not_found"},
		{"another_digest", func(_ int, _ wire.Request, print func(wire.Event), _ *testing.T) (systemd.Status, error) {
			return failing(print, wire.Event{Reason: wire.DigestMismatch, Message: "is sha256:0"})
		}, 1, 0, registry.CodeDigestMismatch, "is sha256:0", "digest_mismatch"},
		{"gated", func(_ int, _ wire.Request, print func(wire.Event), _ *testing.T) (systemd.Status, error) {
			return failing(print, wire.Event{Reason: wire.Gated, Message: "gated"})
		}, 1, 0, registry.CodeProvisionFailed, "gated", "gated"},
		{
			"a_result_that_is_not_its_own",
			func(_ int, _ wire.Request, print func(wire.Event), _ *testing.T) (systemd.Status, error) {
				print(wire.Event{Kind: wire.Result, Path: "/etc/passwd", Commit: "c0ffee"})
				return systemd.Status{}, nil
			},
			1,
			0,
			registry.CodeProvisionFailed,
			"not in its own directory",
			"bad_answer",
		},
		{
			"a_link_out_of_its_directory",
			func(_ int, r wire.Request, print func(wire.Event), t *testing.T) (systemd.Status, error) {
				path := filepath.Join(r.CacheDir, r.Directory, "snapshots", "c0ffee", "tiny.gguf")
				_ = os.Remove(path)
				err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink("/etc/passwd", path))
				if err != nil {
					t.Error(err)
				}
				print(wire.Event{Kind: wire.Result, Path: path, Commit: "c0ffee"})
				return systemd.Status{}, nil
			},
			1,
			0,
			registry.CodeProvisionFailed,
			"leads out of its directory, to /etc/passwd",
			"bad_answer",
		},
		{"no_line_at_all", func(_ int, _ wire.Request, _ func(wire.Event), _ *testing.T) (systemd.Status, error) {
			return systemd.Status{ActiveState: "failed", Result: "oom-kill"}, nil
		}, triesMost, 0, registry.CodeProvisionFailed, "killed for want of memory", "killed"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHost(t)
				h.run = func(_ context.Context, n int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
					return c.run(n, r, print, t)
				}
				o := h.start(h.settings())
				began := time.Now()
				_, err := o.Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), quiet)
				f := registry.AsFailure(err, "", "")
				switch {
				case c.code == "" && err != nil, c.code != "" && err == nil:
					t.Fatalf("got %v", err)
				case f != nil && (f.Code != c.code || !strings.Contains(f.Message, c.says) || f.Hint == ""):
					t.Errorf("got %+v, want %s with %q and a hint", f, c.code, c.says)
				}
				if took := time.Since(began); len(h.requests) != c.runs || took < c.took {
					t.Errorf("%d runs in %s, want %d in %s", len(h.requests), took, c.runs, c.took)
				}
				if h.reasons[0] != c.reason {
					t.Errorf("counted as %q, want %q", h.reasons[0], c.reason)
				}
				if c.code == "" || c.runs == triesMost {
					return
				}
				if _, err := o.Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), quiet); registry.AsFailure(
					err,
					"",
					"",
				) != f {
					t.Errorf("asked again at once: %v", err)
				}
				o.Configure(h.settings()) // a reload asks again
				_, _ = o.Obtain(t.Context(), want(t, "hf:acme/tiny/tiny.gguf"), quiet)
				if len(h.requests) != c.runs+1 {
					t.Errorf("%d runs after a reload, want %d", len(h.requests), c.runs+1)
				}
			})
		})
	}
}
