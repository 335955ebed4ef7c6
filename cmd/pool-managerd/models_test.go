package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// TestModels: the cache is listed with the pools that use it, read once for many callers, and a
// caller does not wait for another one who reads a disk that hangs.
func TestModels(t *testing.T) {
	cache, digest := t.TempDir(), strings.Repeat("0a", 32)
	put := func(name, content string) {
		t.Helper()
		name = filepath.Join(cache, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	put("models--acme--llama3/blobs/"+digest, "weights")
	put("models--acme--llama3/blobs/0123456789012345678901234567890123456789", "{}")
	put("models--acme--half/blobs/x.incomplete", "weig")
	reg := registry.New()
	reg.Put(registry.Pool{ID: "a", ModelID: "hf:acme/llama3:Q8_0"})
	reg.Put(registry.Pool{ID: "b", ModelID: "/srv/other.gguf", Reload: &registry.Reload{ModelID: "hf:acme/llama3"}})
	host := config.Host{Provisioning: config.Provisioning{CacheDir: cache}}
	var inForce atomic.Pointer[config.Host]
	inForce.Store(&host)
	c := newCacheList(&inForce, "", reg)
	list, err := c.Models(t.Context())
	if err != nil || len(list.Models) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	half, llama := list.Models[0], list.Models[1]
	if llama.Model != "hf:acme/llama3" || llama.Bytes != 9 || llama.Files != 2 || llama.Partial != 0 ||
		strings.Join(llama.Digests, " ") != "sha256:"+digest || strings.Join(llama.Pools, " ") != "a b" ||
		llama.UsedMS == nil {
		t.Errorf("%+v", llama)
	}
	if half.Files != 0 || half.Partial == 0 || half.Digests == nil || half.Pools == nil {
		t.Errorf("%+v", half)
	}
	put("models--acme--new/blobs/"+digest, "weights")
	if list, _ = c.Models(t.Context()); len(list.Models) != 2 {
		t.Error("the directory is read for each caller")
	}
	c.taken = c.taken.Add(-cacheAge)
	if list, _ = c.Models(t.Context()); len(list.Models) != 3 {
		t.Error("a list that is old is shown")
	}
	<-c.turn // one reads, and does not come back
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := c.Models(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
	c.turn <- struct{}{}
	host.Provisioning.CacheDir = filepath.Join(cache, "models--acme--new/blobs", digest)
	_, err = c.Models(t.Context())
	var f *registry.Failure
	if !errors.As(err, &f) || f.Code != registry.CodeProvisionFailed || f.Hint == "" {
		t.Errorf("%v", err)
	}
	host.Provisioning.CacheDir = filepath.Join(cache, "none")
	if list, err = c.Models(t.Context()); err != nil || list.Models == nil || len(list.Models) != 0 {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestShare: files of the cache are opened for others where the host shares them.
func TestShare(t *testing.T) {
	cache, digest := t.TempDir(), strings.Repeat("0a", 32)
	blobs := filepath.Join(cache, "models--a--b", "blobs")
	if err := errors.Join(os.MkdirAll(blobs, 0o755), os.WriteFile(filepath.Join(blobs, digest), []byte("x"), 0o644),
		os.WriteFile(filepath.Join(cache, "file"), nil, 0o644)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, dir, digest string
		share             bool
		code              registry.Code // empty: it is opened
	}{
		{"shared", cache, "sha256:" + digest, true, ""},
		{"not_shared", cache, "sha256:" + digest, false, registry.CodePolicyDenied},
		{"not_there", cache, "sha256:" + strings.Repeat("0b", 32), true, registry.CodeModelNotFound},
		{"no_cache", filepath.Join(cache, "file"), "sha256:" + digest, true, registry.CodeModelNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			var inForce atomic.Pointer[config.Host]
			inForce.Store(&config.Host{Provisioning: config.Provisioning{CacheDir: c.dir, Share: c.share}})
			f, err := newCacheList(&inForce, "", registry.New()).Open(t.Context(), c.digest)
			if err == nil {
				f.Close()
			}
			var got *registry.Failure
			if c.code == "" && err != nil || c.code != "" && (!errors.As(err, &got) || got.Code != c.code ||
				got.Hint == "") {
				t.Errorf("%v, want %q", err, c.code)
			}
		})
	}
}

// TestAddressesOf: other hosts that have a model are asked, those first that have all of it, and
// each of them is the first one at times.
func TestAddressesOf(t *testing.T) {
	const name = "hf:acme/llama3"
	has := func(node, model string, whole bool, digests ...string) wire.FleetModel {
		return wire.FleetModel{Address: node, Model: model, Whole: whole, Digests: digests}
	}
	models := []wire.FleetModel{has("self", name, true, "d"), has("part", name, false, "d"), has("", name, true, "d"),
		has("other", "hf:acme/qwen", true, "d"), has("none", name, true), has("a", name, true, "d"),
		has("b", name, true, "d")}
	first := map[string]int{}
	for range 200 {
		got := addressesOf(models, name, "self")
		if len(got) != 3 || got[2] != "part" {
			t.Fatalf("%q", got)
		}
		first[got[0]]++
	}
	if first["a"] == 0 || first["b"] == 0 {
		t.Errorf("%v", first)
	}
}

// TestPeersWhilePoolFleetStarts: a download that begins while pool-fleet starts again, as with each
// reload, waits for what it reads.
func TestPeersWhilePoolFleetStarts(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	f, err := newFleetView(socket)
	if err != nil {
		t.Fatal(err)
	}
	f.configured.Store(true)
	d := &daemon{fleet: f, log: slog.New(slog.DiscardHandler)}
	asked := 0
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 1 {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"code":"FLEET_UNAVAILABLE","message":"the fleet has not been read yet","hint":"Try again."}`)
			return
		}
		fmt.Fprint(w, `{"models":[{"model":"hf:acme/tiny","address":"https://gpu1","digests":["sha256:00"]}]}`)
	})}
	late := time.AfterFunc(2*peersAgain, func() {
		if l, err := net.Listen("unix", socket); err == nil {
			_ = server.Serve(l)
		}
	})
	defer late.Stop()
	defer server.Close()
	ref, err := modelref.Parse("hf:acme/tiny/a.gguf")
	if err != nil {
		t.Fatal(err)
	}
	if got := d.peersWith(t.Context(), ref); !slices.Equal(got, []string{"https://gpu1"}) {
		t.Errorf("%v", got)
	}
	f.configured.Store(false)
	server.Close()
	f.models.taken = time.Time{}
	began := time.Now()
	if got := d.peersWith(t.Context(), ref); got != nil || time.Since(began) > peersWait {
		t.Errorf("without an etcd: %v after %s", got, time.Since(began))
	}
}
