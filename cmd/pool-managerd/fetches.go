package main

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/config"
	"github.com/pool-managerd/pool-managerd/units/modelref"
	"github.com/pool-managerd/pool-managerd/units/obtain"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// fetches implements obtain.PID1 with systemd's client.
type fetches struct{ *systemd.Client }

// Stop implements obtain.PID1.
func (f fetches) Stop(ctx context.Context, unit string) error {
	job, err := f.Client.Stop(ctx, unit)
	return stopped(ctx, job, err)
}

// configureFetches puts the settings of downloads in force.
func (d *daemon) configureFetches(h config.Host) {
	s := h.Fetching()
	s.Uses = filepath.Join(d.o.stateDir, "models")
	d.obtainer.Configure(s)
	d.inForce.Store(&h)
}

// prefetched are the models that pools will change to, with those pools.
func prefetched(want supervise.Desired) map[modelref.Ref][]string {
	models := make(map[modelref.Ref][]string)
	for _, p := range want.Pools {
		if want.Refuse != nil && want.Refuse(p) != nil {
			continue
		}
		for _, model := range p.Prefetch {
			if ref, err := modelref.Parse(model); err == nil && !slices.Contains(models[ref], p.ID) {
				models[ref] = append(models[ref], p.ID)
			}
		}
	}
	return models
}

// shelf implements the API's library.
type shelf struct {
	pulls *obtain.Pulls
	*cacheList
}

// Pull implements api.Library.
func (s shelf) Pull(ctx context.Context, model, digest, by string) (registry.Download, error) {
	ref, err := remote(model, digest)
	if err != nil {
		return registry.Download{}, err
	}
	return s.pulls.Ask(ctx, obtain.Want{Ref: ref, Digest: digest}, by)
}

// CancelPull implements api.Library.
func (s shelf) CancelPull(ctx context.Context, model, _ string) (registry.Download, error) {
	ref, err := remote(model, "")
	if err != nil {
		return registry.Download{}, err
	}
	return s.pulls.Cancel(ref)
}

// Downloads implements api.Library.
func (s shelf) Downloads() []registry.Download { return s.pulls.List() }

// remote reads the reference of a model of another host.
func remote(model, digest string) (modelref.Ref, error) {
	if _, err := config.Reference("", digest, config.Provisioning{}); err != nil {
		return modelref.Ref{}, err
	}
	ref, err := modelref.Parse(model)
	var wrong *modelref.Error
	if errors.As(err, &wrong) {
		return ref, registry.Fail(registry.CodeInvalidParams, wrong.Error(), wrong.Hint)
	}
	if !ref.Remote() {
		return modelref.Ref{}, registry.Fail(registry.CodeInvalidParams, "the model is on this host already",
			"Name one that is downloaded, as hf:org/name:Q4_K_M.")
	}
	return ref, nil
}
