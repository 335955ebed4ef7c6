package supervise

import (
	"context"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

func (s *Supervisor) stage(r *replica) {
	ctx, gen, p := s.begin(r, reconcile.Stage), r.gen, r.want
	r.facts.Stage, r.facts.Prepare = reconcile.Running, reconcile.Pending
	s.effect(func(context.Context) func() {
		staged, err := s.Stager.Stage(ctx, p)
		return func() {
			if !s.end(r, gen) {
				r.facts.Stage = reconcile.Pending
			} else if err != nil {
				s.failed(r, registry.AsFailure(err, registry.CodeProvisionFailed, ""))
			} else {
				r.staged, r.facts.Stage = staged, reconcile.Done
			}
			s.settle(r)
		}
	}, s.broke(r))
}

func (s *Supervisor) prepare(r *replica) {
	ctx, gen, p := s.begin(r, reconcile.Prepare), r.gen, r.want
	r.facts.Prepare = reconcile.Running
	adapter, ok := engine.For(p.Engine)
	if !ok {
		s.end(r, gen)
		s.failed(r, registry.Fail(registry.CodeConfigInvalid, "engine "+p.Engine+" has no adapter", "Use one of the engines that poolctl check lists."))
		return
	}
	staged, mask := r.staged, r.asked()
	s.effect(func(context.Context) func() {
		ready, err := s.readying(ctx, p, staged, mask, adapter)
		return func() {
			if !s.end(r, gen) {
				r.facts.Prepare = reconcile.Pending
			} else if err != nil {
				s.failed(r, registry.AsFailure(err, registry.CodeProvisionFailed, ""))
			} else if err := s.guard(func() error { return s.rendering(r, ready, adapter) }); err != nil {
				s.failed(r, registry.AsFailure(err, registry.CodeConfigInvalid, ""))
			}
			s.settle(r)
		}
	}, s.broke(r))
}

// readied is what a replica is rendered from, beside its pool file and its model.
type readied struct {
	prepared pool.Prepared
	targets  []devices.Target
	need     memory.Need
}

// readying finds the engine and the GPUs, and what the one needs of the others. It runs beside the loop.
func (s *Supervisor) readying(ctx context.Context, p pool.Pool, staged pool.Staged, mask []string, adapter engine.Adapter) (out readied, err error) {
	if out.prepared, err = s.Preparer.Prepare(ctx, p, adapter); err != nil {
		return out, err
	}
	if len(mask) > 0 {
		if out.targets, err = devices.Resolve(mask, s.awaitGPUs(ctx)); err != nil {
			return out, err
		}
	}
	if s.Memory != nil {
		out.need, err = s.Memory.Need(ctx, Load{Pool: p, Staged: staged, Version: out.prepared.Version, Mask: out.targets})
		if err != nil {
			return out, err
		}
	}
	return out, devices.CheckSplit(p, out.targets, out.need.Total())
}

// rendering chooses the port and renders the unit that is now wanted.
func (s *Supervisor) rendering(r *replica, ready readied, adapter engine.Adapter) error {
	p := r.want
	if f := s.overlap(r, ready.targets); f != nil {
		return f
	}
	want := 0
	if p.Port != 0 {
		want = p.Port + r.id.Index
	}
	switch other := r.sibling(); {
	case want != 0 && other != nil && other.port == want:
		r.port = want // it is given up before this one starts
	case want != 0 && r.port != want || r.port == 0:
		port, err := s.Ports.Claim(r.id, want)
		if err != nil {
			return err
		}
		r.port = port
	}
	unit, err := render.Render(render.Input{
		Pool: p, Replica: r.id.Index, Side: r.id.Side, Staged: r.staged, Prepared: ready.prepared, Port: r.port, Adapter: adapter, Host: s.Host,
		Mask: given(ready.targets), Need: render.Need{Devices: ready.need.Devices, Host: ready.need.Host},
	})
	if err != nil {
		return err
	}
	r.prepared, r.rendered, r.planned, r.need = ready.prepared, unit, ready.targets, ready.need
	r.facts.Spec = parseSpec(unit.SpecHash)
	r.facts.Prepare, r.facts.Failure = reconcile.Done, nil
	r.takeMask()
	r.facts.GPU = s.gpus.Blocked(r.targets, time.Now())
	if !r.facts.Draining && r.facts.Unit != reconcile.Broken {
		r.facts.RetryAt = time.Time{}
	}
	return nil
}
