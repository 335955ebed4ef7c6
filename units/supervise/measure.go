package supervise

import (
	"cmp"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/bench"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/perf"
)

// measured is what Options.Measure knows of a run.
type measured struct{ reported, automatic bool }

// measure reports each run once it serves and it is known what it is, and
// again when it may be measured by itself or no longer: whether it is, and when, is not decided
// here. What an adopted unit runs is known once its files were prepared again.
func (s *Supervisor) measure(e *entry) {
	if s.o.Measure == nil {
		return
	}
	for _, r := range e.replicas {
		now := measured{true, r.pool().Hints.Benchmark && !r.external()}
		if r.run.measured == now || r.run.watch == nil || r.view.state != registry.StateReady ||
			!r.current() && !r.external() || r.slotsTotal() == 0 {
			continue
		}
		adapter, ok := r.adapter()
		if !ok {
			continue
		}
		r.run.measured = now
		t := r.target(adapter)
		t.Automatic = now.automatic
		s.o.Measure(t)
	}
}

// target is the replica's run as it is measured.
func (r *replica) target(a engine.Adapter) bench.Target {
	p := r.pool()
	kind, model := r.serves()
	t := bench.Target{
		Pool: r.id.Pool, Replica: r.id.Name(), Name: r.id.Stable(), Run: r.unit.status.InvocationID,
		Endpoint: r.unit.endpoint, Ctx: cmp.Or(r.servedContext(), p.Ctx), Key: keyOf(p),
		Identity: perf.Identity{Engine: kind, Version: r.version(), Model: model,
			Contents: cmp.Or(p.ModelDigest, r.prep.staged.Contents, p.Contents, model),
			Settings: perf.Hash([]any{p.Args, p.Variables(), p.Ctx, p.Slots, p.TensorSplit, p.Limits, p.Process,
				p.Sandbox, p.Provisioning}),
			Mask: r.mask()},
	}
	if c, ok := engine.CompletionOf(a, p); ok {
		t.Ask = &c
	}
	return t
}
