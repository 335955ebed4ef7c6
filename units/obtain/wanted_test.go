package obtain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
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
	"github.com/pool-managerd/pool-managerd/units/egress"
	"github.com/pool-managerd/pool-managerd/units/fetch/wire"
)

// TestNoLongerWanted: a download that no one waits for is stopped after a while, and not when the
// manager ends.
func TestNoLongerWanted(t *testing.T) {
	hang := func(ctx context.Context, _ int, _ wire.Request, _ func(wire.Event)) (systemd.Status, error) {
		<-ctx.Done()
		return systemd.Status{}, ctx.Err()
	}
	t.Run("stopped", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.run = hang
			o := h.start(h.settings())
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if _, err := o.Obtain(ctx, want(t, "hf:acme/tiny/tiny.gguf"), quiet); !errors.Is(
				err,
				context.DeadlineExceeded,
			) {
				t.Errorf("got %v", err)
			}
			time.Sleep(abandonAfter - time.Second)
			if _, stopped := h.seen(); len(stopped) != 0 {
				t.Fatal("stopped at once")
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if _, stopped := h.seen(); len(stopped) != 1 ||
				!strings.HasPrefix(stopped[0], "pool-fetch@models--acme--tiny.") {
				t.Errorf("stopped %v", stopped)
			}
		})
	})
	t.Run("wanted_again", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.run = hang
			o := h.start(h.settings())
			for range 3 {
				ctx, cancel := context.WithTimeout(t.Context(), abandonAfter)
				_, _ = o.Obtain(ctx, want(t, "hf:acme/tiny/tiny.gguf"), quiet)
				cancel()
				time.Sleep(abandonAfter / 2)
			}
			if runs, stopped := h.seen(); runs != 1 || len(stopped) != 0 {
				t.Errorf("%d runs, stopped %v", runs, stopped)
			}
		})
	})
	t.Run("the_manager_ends", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h := newHost(t)
			h.run = hang
			o := New(
				Options{
					PID1:        h,
					Program:     "/pool-fetch",
					Output:      filepath.Join(h.dir, "out"),
					Log:         slog.New(slog.DiscardHandler),
					Nameservers: func() []netip.Addr { return nil },
				},
			)
			o.Configure(h.settings())
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { o.Run(ctx); close(ended) }()
			waited := make(chan error, 1)
			go func() { _, err := o.Obtain(ctx, want(t, "hf:acme/tiny/tiny.gguf"), quiet); waited <- err }()
			synctest.Wait()
			cancel()
			<-ended
			if err := <-waited; err == nil {
				t.Error("it is there")
			}
			time.Sleep(2 * abandonAfter)
			if _, stopped := h.seen(); len(stopped) != 0 {
				t.Errorf("stopped %v", stopped)
			}
		})
	})
}

// TestOneDirectoryAtATime: two models of one repository are downloaded one after the other.
func TestOneDirectoryAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		var now, most int
		h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			h.mu.Lock()
			now++
			most = max(most, now)
			h.mu.Unlock()
			time.Sleep(time.Minute)
			h.mu.Lock()
			now--
			h.mu.Unlock()
			return failing(print, wire.Event{Reason: wire.NotFound, Message: "no"})
		}
		o := h.start(h.settings())
		var all sync.WaitGroup
		for _, ref := range []string{"hf:acme/tiny/a.gguf", "hf:acme/tiny/b.gguf", "hf:acme/tiny@dev"} {
			all.Go(func() { _, _ = o.Obtain(t.Context(), want(t, ref), quiet) })
		}
		all.Wait()
		if most != 1 || len(h.requests) != 3 {
			t.Errorf("%d at once, %d in all", most, len(h.requests))
		}
	})
}

// TestSources: each source has its own endpoint, region and secret, and never those of another.
func TestSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			return failing(print, wire.Event{Reason: wire.NotFound, Message: "no"})
		}
		s := h.settings()
		s.Egress = egress.Allow
		s.TokenFile, s.RegistryAuth = filepath.Join(h.dir, "token"), filepath.Join(h.dir, "auth.json")
		s.Store = egress.Store{Endpoint: "https://s3.example", Region: "eu-1",
			Credentials: filepath.Join(h.dir, "keys")}
		for _, file := range []string{s.TokenFile, s.RegistryAuth, s.Store.Credentials} {
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		o := h.start(s)
		for _, c := range []struct{ ref, endpoint, region, host, credential, file string }{
			{"hf:acme/tiny/a.gguf", "https://hub.example", "", "hub.example", "token", s.TokenFile},
			{"s3://models/a.gguf", "https://s3.example", "eu-1", "s3.example", "s3-credentials", s.Store.Credentials},
			{"oci:registry.example/m:v1", "", "", "registry.example", "registry-auth", s.RegistryAuth},
			{"https://files.example/a.gguf", "", "", "files.example", "", ""},
		} {
			_, _ = o.Obtain(t.Context(), want(t, c.ref), quiet)
			r, props := h.requests[len(h.requests)-1], h.props[len(h.props)-1]
			if r.Endpoint != c.endpoint || r.Region != c.region || len(r.Hosts) != 1 || r.Hosts[c.host] == nil {
				t.Errorf("%s: request %+v", c.ref, r)
			}
			var secrets []systemd.PathString
			if v := value(props, "LoadCredential"); v != nil {
				secrets = v.([]systemd.PathString)
			}
			if c.file == "" && len(secrets) > 0 ||
				c.file != "" && !slices.Equal(secrets, []systemd.PathString{{First: c.credential, Second: c.file}}) {
				t.Errorf("%s: credentials %v", c.ref, secrets)
			}
		}
		s.Store.Endpoint = ""
		o.Configure(s)
		_, err := o.Obtain(t.Context(), want(t, "s3://models/b.gguf"), quiet)
		if f := registry.AsFailure(err, "", ""); f == nil || !strings.Contains(f.Message+f.Hint, "s3_endpoint") {
			t.Errorf("without a store: %v", err)
		}
		s.RegistryAuth += ".gone"
		o.Configure(s)
		_, err = o.Obtain(t.Context(), want(t, "oci:registry.example/m:v2"), quiet)
		if f := registry.AsFailure(err, "", ""); f == nil || !strings.Contains(f.Message, "registry_auth_file") ||
			!strings.Contains(f.Hint, "podman login") {
			t.Errorf("without the file: %v", err)
		}
	})
}

// TestToken: the token is a credential of the unit of the hub's models, and part of no request.
func TestToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHost(t)
		h.run = func(_ context.Context, _ int, r wire.Request, print func(wire.Event)) (systemd.Status, error) {
			return failing(print, wire.Event{Reason: wire.NotFound, Message: "no"})
		}
		s := h.settings()
		s.Egress, s.TokenFile = egress.Allow, filepath.Join(h.dir, "token")
		o := h.start(s)
		_, err := o.Obtain(t.Context(), want(t, "hf:acme/tiny/a.gguf"), quiet)
		if f := registry.AsFailure(err, "", ""); f == nil || !strings.Contains(f.Message, "hf_token_file") ||
			len(h.requests) != 0 {
			t.Errorf("without the file: %v", err)
		}
		if err := os.WriteFile(s.TokenFile, []byte("hf_secret"), 0o600); err != nil {
			t.Fatal(err)
		}
		o.Configure(s)
		for ref, has := range map[string]bool{"hf:acme/tiny/a.gguf": true, "https://files.example/a.gguf": false} {
			_, _ = o.Obtain(t.Context(), want(t, ref), quiet)
			props := h.props[len(h.props)-1]
			if (value(props, "LoadCredential") != nil) != has {
				t.Errorf("%s: credential %v", ref, value(props, "LoadCredential"))
			}
			if text := fmt.Sprint(props); strings.Contains(text, "hf_secret") {
				t.Errorf("%s: the token is in the unit", ref)
			}
		}
	})
}
