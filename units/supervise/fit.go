package supervise

import (
	"context"
	"fmt"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/rollout"
)

// fitOf is the answer to whether a new engine fits beside the old one, for one place of one reload.
type fitOf struct {
	id     pool.Replica
	gen    int // of its preparation
	asked  bool
	answer rollout.Fit
	short  *registry.Failure
}

// fit reports whether the engine that comes fits beside the one that leaves. It asks beside the
// loop, once; until then no one knows.
func (s *Supervisor) fit(e *entry, leaves, comes *replica, rec *rollout.Record) (rollout.Fit, *registry.Failure) {
	if e.fit.id != comes.id || e.fit.gen != comes.prep.try {
		e.fit = fitOf{id: comes.id, gen: comes.prep.try}
	}
	switch {
	case e.fit.answer != rollout.FitUnknown:
		return e.fit.answer, e.fit.short
	case leaves == nil || !leaves.unit.phase.Exists():
		// nothing serves that it could start beside, and the old one must not come up in its way
		return rollout.FitAfter, nil
	case leaves.unit.port == comes.unit.port:
		return rollout.FitAfter, nil // the file gives both the same port
	}
	if f := s.tooLarge(leaves, comes); f != nil {
		return rollout.FitNever, f
	}
	if s.o.Memory == nil {
		return rollout.FitBeside, nil
	}
	if e.fit.asked {
		return rollout.FitUnknown, nil
	}
	e.fit.asked = true
	unit, load, need, about := comes.unit.name, comes.load(), comes.prep.need, e.fit
	s.effect(func(ctx context.Context) func() {
		short := s.o.Memory.Try(ctx, unit, load, need)
		return func() { s.fitKnown(e, about, short) }
	}, func(err error) {
		s.fitKnown(e, about, registry.AsFailure(err, registry.CodeProvisionFailed, ""))
	})
	return rollout.FitUnknown, nil
}

// fitKnown takes the answer on the loop.
func (s *Supervisor) fitKnown(e *entry, about fitOf, short *registry.Failure) {
	if e.fit.id != about.id || e.fit.gen != about.gen {
		return
	}
	e.fit.answer = rollout.FitBeside
	if short != nil {
		e.fit.answer = rollout.FitAfter
		s.o.Log.Info("the new engine does not fit beside the old one, which is stopped first: "+short.Message,
			e.about()...)
	}
	s.follow(e)
}

// tooLarge says which device could not hold the new engine even with the old one gone; nil: none is
// known to.
func (s *Supervisor) tooLarge(leaves, comes *replica) *registry.Failure {
	for _, t := range comes.prep.planned {
		need := comes.prep.need.Usual().Devices[t.UUID]
		free, known := s.gpus.Free(t.UUID)
		if most := free + s.gpus.Used(leaves.unit.name, t.UUID); known && need > most {
			return registry.Fail(registry.CodeInsufficientVRAM,
				fmt.Sprintf("GPU %d would have %d MiB free without the old engine, and the new one needs %d MiB",
					t.Index, most>>20, need>>20),
				"Choose a smaller model, or lower ctx or slots; poolctl fit prints what a model needs.")
		}
	}
	return nil
}
