package supervise

import (
	"context"
	"errors"
	"path/filepath"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// ErrNoSuchPool says that no pool file asks for the pool.
var ErrNoSuchPool = errors.New("no pool file asks for this pool")

// previewPort stands in a unit file that is shown before a port was chosen.
const previewPort = 21000

// applyFeatures notes what this PID 1 can do.
func (s *Supervisor) applyFeatures(f systemd.Features) {
	host := render.HostOf(f.Has)
	host.GatePath, host.SoftReboot, host.MemoryBytes = s.host.GatePath, s.host.SoftReboot, s.host.MemoryBytes
	host.Forwarder, host.VRAMOnly = s.host.Forwarder, s.host.VRAMOnly
	host.StagingRoot, host.StateBytes = s.host.StagingRoot, s.host.StateBytes
	s.host = host
}

// hostWishes puts the host's wishes in force for units that are made later.
func (s *Supervisor) hostWishes(softReboot, vramOnly bool) {
	if softReboot == s.host.SoftReboot && vramOnly == s.host.VRAMOnly {
		return
	}
	s.host.SoftReboot, s.host.VRAMOnly = softReboot, vramOnly
	for _, e := range s.entries {
		for _, r := range e.replicas {
			r.prepareAgain() // what is rendered already has the former wish
		}
	}
}

// RenderUnit returns the unit files of a pool's replicas as an administrator would write them. A
// pool whose model or engine is not there yet is shown as it would be with the paths in its file.
func (s *Supervisor) RenderUnit(ctx context.Context, id string) (string, error) {
	type answer struct {
		text string
		err  error
	}
	got := make(chan answer, 1)
	select {
	case s.events <- func() { text, err := s.unitFiles(id); got <- answer{text, err} }:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	select {
	case a := <-got:
		return a.text, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *Supervisor) unitFiles(id string) (string, error) {
	e := s.entries[id]
	if e == nil || !e.known {
		return "", ErrNoSuchPool
	}
	var files []string
	for _, r := range e.sorted() {
		if r.wish.asks == reconcile.Unwanted {
			continue
		}
		if r.external() {
			return "", registry.Fail(registry.CodeConfigInvalid, "the pool's engine is external: it has no unit here",
				"Its endpoint is "+r.wish.pool.Provisioning.URL+".")
		}
		unit, err := s.preview(r)
		if err != nil {
			return "", err
		}
		files = append(files, unit.File())
	}
	return strings.Join(files, "\n"), nil
}

// preview is the unit that is wanted, as far as it is known.
func (s *Supervisor) preview(r *replica) (render.Unit, error) {
	if r.prep.prepare == reconcile.Done {
		return r.prep.plan.Unit(), nil
	}
	p := r.wish.pool
	adapter, ok := engine.For(p.Engine)
	if !ok {
		return render.Unit{}, errors.New("no adapter for engine " + p.Engine)
	}
	in := render.Input{Pool: p, Replica: r.id.Index, Side: r.id.Side, Adapter: adapter, Host: s.host, Port: r.unit.port,
		Staged:   previewed(p),
		Prepared: pool.Prepared{Binary: p.Provisioning.Binary},
	}
	planned, err := devices.Resolve(r.asked(), s.gpus.Snapshot())
	if err != nil {
		return render.Unit{}, err
	}
	in.Mask = given(planned)
	if p.Port != 0 {
		in.Port = p.Port + r.id.Index
	} else if in.Port == 0 {
		in.Port = previewPort
	}
	if in.Staged.Path == "" {
		in.Staged.Files = nil
	}
	for _, f := range engine.Brought(p) {
		in.Staged.Files = append(in.Staged.Files, f.Path)
	}
	if in.Prepared.Binary == "" {
		in.Prepared.Binary = adapter.DefaultBinary()
	}
	if !filepath.IsAbs(in.Prepared.Binary) {
		in.Prepared.Binary = filepath.Join("/usr/bin", in.Prepared.Binary)
	}
	return render.Render(in)
}

// previewed is the model as far as it is known before it was staged. Where a download leads is not.
func previewed(p pool.Pool) pool.Staged {
	path := p.Model.Path()
	if p.Model != "" && p.Model.Scheme() != "file" {
		path = "/var/cache/pool-managerd/models/MODEL"
	}
	return pool.Staged{Path: path, Files: []string{path}}
}
