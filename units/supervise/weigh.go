package supervise

import (
	"context"
	"log/slog"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/memory"
)

// Weigher is the real Memory: the model's file and what former runs used on one side, the driver's free memory, less what was
// promised to engines that are loading, on the other.
type Weigher struct {
	Estimator *memory.Estimator
	Peaks     memory.Peaks
	// Ask puts a question to the GPU helper.
	Ask func(context.Context, wire.Request) (wire.Reply, error)
	Log *slog.Logger
}

// Need implements Memory.
func (w Weigher) Need(ctx context.Context, l Load) (memory.Need, error) {
	return w.Estimator.Estimate(ctx, l.Pool, l.Staged, l.Version, l.Mask)
}

// Try implements Memory.
func (w Weigher) Try(ctx context.Context, unit string, l Load, need memory.Need) *registry.Failure {
	if available, err := memory.Available(); err != nil {
		w.Log.Warn("the host's free memory cannot be read, so a start is not checked against it", "err", err)
	} else if f := memory.CheckHost(need, available, l.Pool.Limits.MemoryMaxBytes); f != nil {
		return f
	}
	if len(need.Devices) == 0 {
		return nil
	}
	reply, err := w.Ask(ctx, wire.Request{Op: wire.OpReserve, Unit: unit, Needs: need.Devices, DryRun: true})
	if err != nil {
		// Nobody can tell: the unit's own step asks again, and the engine itself finds out in the end.
		w.Log.Warn("whether the GPUs have enough memory cannot be told; the engine is started all the same", "unit", unit, "err", err)
		return nil
	}
	return memory.Refusal(need, reply.Short, l.Mask)
}

// Record implements Memory.
func (w Weigher) Record(_ context.Context, l Load, s memory.Sample) {
	if err := w.Peaks.Record(memory.Key(l.Pool, l.Staged, l.Version, l.Mask), s); err != nil {
		w.Log.Warn("what the engine used of its GPUs was not written down", "pool_id", l.Pool.ID, "err", err)
	}
}
