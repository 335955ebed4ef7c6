package supervise

import (
	"context"
	"maps"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/reconcile"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// prepareStep runs one step of a replica's preparation beside the loop. take gets the result on the
// loop unless the step was given up.
func (s *Supervisor) prepareStep(r *replica, ctx context.Context, try int,
	step func(context.Context) (take func() error, err error)) {
	finish := func(take func() error, err error, code registry.Code) {
		if !r.prep.current(try) {
			return
		}
		if err == nil {
			err, code = s.guard(take), registry.CodeConfigInvalid
		}
		if err != nil {
			r.prep.failed(registry.AsFailure(err, code, ""), time.Now())
		}
		s.settle(r)
	}
	s.effect(func(context.Context) func() {
		take, err := step(ctx)
		return func() { finish(take, err, registry.CodeProvisionFailed) }
	}, func(err error) {
		defect := registry.AsFailure(err, registry.CodeProvisionFailed, "Report this defect with the surrounding log.")
		finish(nil, defect, registry.CodeProvisionFailed)
	})
}

func (s *Supervisor) stage(r *replica) {
	ctx, cancel := context.WithCancel(s.ctx)
	try, p := r.prep.beginStage(cancel), r.wish.pool
	s.prepareStep(r, ctx, try, func(ctx context.Context) (func() error, error) {
		staged, err := s.o.Stager.Stage(ctx, p, func(p pool.Staging) { s.post(func() { s.downloading(r, try, p) }) })
		return func() error { s.downloaded(r); s.staged(r, staged); return nil }, err
	})
}

// staged takes a staged model, and what the pool's files of variables hold: an engine that was
// adopted may be asked elsewhere because of them.
func (s *Supervisor) staged(r *replica, staged pool.Staged) {
	s.fill(r.entry, staged)
	r.prep.stageDone(staged)
	if maps.Equal(r.wish.pool.FileEnv, staged.FileEnv) {
		return
	}
	r.wish.pool.FileEnv = staged.FileEnv
	s.stopHealth(r)
	s.followHealth(r)
}

func (s *Supervisor) prepare(r *replica) {
	p := r.wish.pool
	adapter, ok := engine.For(p.Engine)
	if !ok {
		r.prep.failed(registry.Fail(registry.CodeConfigInvalid, "engine "+p.Engine+" has no adapter",
			"Use one of the engines that poolctl check lists."), time.Now())
		return
	}
	ctx, cancel := context.WithCancel(s.ctx)
	try, staged, mask := r.prep.beginPrepare(cancel), r.prep.staged, r.asked()
	s.prepareStep(r, ctx, try, func(ctx context.Context) (func() error, error) {
		ready, err := s.readying(ctx, p, staged, mask, adapter)
		return func() error { return s.rendering(r, ready, adapter) }, err
	})
}

// readying finds the engine and the GPUs, and what the one needs of the others. It runs beside the
// loop.
func (s *Supervisor) readying(
	ctx context.Context, p pool.Pool, staged pool.Staged, mask []string, adapter engine.Adapter,
) (out readied, err error) {
	if out.prepared, err = s.o.Preparer.Prepare(ctx, p, adapter); err != nil {
		return out, err
	}
	if len(mask) > 0 {
		if out.planned, err = devices.Resolve(mask, s.awaitGPUs(ctx)); err != nil {
			return out, err
		}
	}
	if s.o.Memory != nil {
		load := Load{Pool: p, Staged: staged, Version: out.prepared.Version, Mask: out.planned}
		if out.need, err = s.o.Memory.Need(ctx, load); err != nil {
			return out, err
		}
	}
	return out, devices.CheckSplit(p, out.planned, out.need.Usual().Total())
}

// rendering chooses the port and plans the unit that is now wanted.
func (s *Supervisor) rendering(r *replica, ready readied, adapter engine.Adapter) error {
	if f := s.overlap(r, ready.planned); f != nil {
		return f
	}
	if err := s.choosePort(r); err != nil {
		return err
	}
	plan, err := render.NewPlan(render.Input{
		Pool: r.wish.pool, Replica: r.id.Index, Side: r.id.Side, Staged: r.prep.staged, Prepared: ready.prepared,
		Port:    r.unit.port,
		Adapter: adapter, Host: s.host, Mask: given(ready.planned),
		Need: render.Need{Devices: ready.need.Devices, Host: ready.need.Host, Mapped: ready.need.Mapped,
			Lacked: ready.need.MainMemory()},
	})
	if err != nil {
		return err
	}
	r.prep.done(ready, plan)
	r.gpu.enough, _ = s.gpus.Enough(ready.need.Devices)
	r.updateMask()
	s.updateBlocked(r, time.Now())
	if !r.run.draining() && r.unit.phase != reconcile.Broken {
		r.job.startAt = time.Time{}
	}
	return nil
}

// choosePort claims the port that the pool's file names, or else keeps the one that the replica
// has, or else takes a free one.
func (s *Supervisor) choosePort(r *replica) error {
	want := 0
	if r.wish.pool.Port != 0 {
		want = r.wish.pool.Port + r.id.Index
	}
	switch other := r.sibling(); {
	case want != 0 && other != nil && other.unit.port == want:
		r.unit.port = want // it is given up before this one starts
	case want != 0 && r.unit.port != want || r.unit.port == 0:
		port, err := s.o.Ports.Claim(r.id, want)
		if err != nil {
			return err
		}
		r.unit.port = port
	}
	return nil
}
