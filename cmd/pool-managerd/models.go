package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/library"
	"github.com/pool-managerd/pool-managerd/units/modelref"
)

// cacheAge is how old a list of the cache may be: any number of callers cost one reading of the
// directory in that time.
const cacheAge = 5 * time.Second

// cacheList lists the cache of models for the API. One request at a time reads the directory, in
// its own goroutine; on a disk that hangs, the others go away after their time.
type cacheList struct {
	inForce  *atomic.Pointer[config.Host]
	uses     string // directory with a note of when each model was last used
	registry *registry.Registry
	turn     chan struct{} // has one element while the list is not read

	// Of who has the turn.
	dir   string // that was listed
	kept  []library.Artefact
	taken time.Time // zero: nothing is kept
}

func newCacheList(inForce *atomic.Pointer[config.Host], uses string, r *registry.Registry) *cacheList {
	c := &cacheList{inForce: inForce, uses: uses, registry: r, turn: make(chan struct{}, 1)}
	c.turn <- struct{}{}
	return c
}

// Models implements api.Library.
func (c *cacheList) Models(ctx context.Context) (wire.ModelList, error) {
	select {
	case <-c.turn:
	case <-ctx.Done():
		return wire.ModelList{}, ctx.Err()
	}
	defer func() { c.turn <- struct{}{} }()
	dir := c.inForce.Load().Provisioning.CacheDir
	if c.taken.IsZero() || c.dir != dir || time.Since(c.taken) >= cacheAge {
		found, err := library.List(dir, c.uses)
		if err != nil {
			c.taken = time.Time{}
			return wire.ModelList{}, registry.Fail(registry.CodeProvisionFailed,
				fmt.Sprintf("the cache of models cannot be read: %v", err),
				"Check cache_dir in config.toml, and the disk that it is on.")
		}
		c.dir, c.kept, c.taken = dir, found, time.Now()
	}
	return c.list(), nil
}

// Open implements api.Library.
func (c *cacheList) Open(_ context.Context, digest string) (*os.File, error) {
	host := c.inForce.Load()
	if !host.Provisioning.Share {
		return nil, registry.Fail(registry.CodePolicyDenied, "this host does not hand out the files of its cache",
			"Set share = true under [provisioning] in config.toml there.")
	}
	f, err := library.OpenDigest(host.Provisioning.CacheDir, digest)
	switch {
	case errors.Is(err, library.ErrNotThere):
		return nil, registry.Fail(registry.CodeModelNotFound, "the cache has no file of this digest",
			"GET /v1/models lists the digests, as sha256: and 64 hexadecimal digits.")
	case err != nil:
		return nil, registry.Fail(registry.CodeModelNotFound, fmt.Sprintf("the cache cannot be read: %v", err),
			"Check cache_dir in config.toml there.")
	}
	return f, nil
}

// list is what was read, with the pools that use it now.
func (c *cacheList) list() wire.ModelList {
	users := make(map[string][]string)
	add := func(reference, id string) {
		ref, err := modelref.Parse(reference)
		if dir := ref.Directory(); err == nil && dir != "" && !slices.Contains(users[dir], id) {
			users[dir] = append(users[dir], id)
		}
	}
	for _, p := range c.registry.Snapshot().Pools {
		add(p.ModelID, p.ID)
		if p.Override != nil {
			add(p.Override.ModelID, p.ID)
		}
		if p.Reload != nil {
			add(p.Reload.ModelID, p.ID)
		}
	}
	out := wire.ModelList{Models: make([]wire.CachedModel, 0, len(c.kept))}
	for _, a := range c.kept {
		m := wire.CachedModel{Model: a.Name, Directory: a.Directory, Bytes: a.Bytes, Partial: a.Partial, Files: a.Files,
			Digests: a.Digests, Pools: users[a.Directory]}
		if m.Digests == nil {
			m.Digests = []string{}
		}
		if m.Pools == nil {
			m.Pools = []string{}
		}
		if !a.Used.IsZero() {
			ms := a.Used.UnixMilli()
			m.UsedMS = &ms
		}
		out.Models = append(out.Models, m)
	}
	return out
}
