package main

import (
	"context"
	"log/slog"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// weigher implements supervise.Memory. It compares the need, from the model's file and former runs,
// with the driver's free memory less the reservations of engines that are loading.
type weigher struct {
	estimator *memory.Estimator
	peaks     memory.Peaks
	ask       func(context.Context, wire.Request) (wire.Reply, error) // of the GPU helper
	available func() (uint64, error)                                  // main memory of the host, in bytes
	log       *slog.Logger
}

// Need implements supervise.Memory.
func (w weigher) Need(ctx context.Context, l supervise.Load) (memory.Need, error) {
	return w.estimator.Estimate(ctx, l.Pool, l.Staged, l.Version, l.Mask)
}

// Try implements supervise.Memory.
func (w weigher) Try(ctx context.Context, unit string, l supervise.Load, need memory.Need) *registry.Failure {
	if available, err := w.available(); err != nil {
		w.log.Warn("could not read the host's free memory; starting the engine anyway",
			"pool_id", l.Pool.ID, "err", err)
	} else if f, warning := memory.CheckHost(need, available, l.Pool); f != nil {
		return f
	} else if warning != "" {
		w.log.Warn("the engine is started although it "+warning, "pool_id", l.Pool.ID)
	}
	if len(need.Devices) == 0 {
		return nil
	}
	reply, err := w.ask(ctx, wire.Request{Op: wire.OpReserve, Unit: unit, Needs: need.Devices, DryRun: true})
	if err != nil {
		// The unit's own step checks again, and the engine itself fails if there is too little.
		w.log.Warn("could not check free GPU memory; starting the engine anyway",
			"pool_id", l.Pool.ID, "unit", unit, "err", err)
		return nil
	}
	return memory.Refusal(need, reply.Short, l.Mask)
}

// Record implements supervise.Memory.
func (w weigher) Record(_ context.Context, l supervise.Load, s memory.Sample) {
	if err := w.peaks.Record(memory.Key(l.Pool, l.Staged, l.Version, l.Mask), s); err != nil {
		w.log.Warn("could not save how much GPU memory the engine used", "pool_id", l.Pool.ID, "err", err)
	}
}

// Raise implements supervise.Memory.
func (w weigher) Raise(_ context.Context, l supervise.Load, end memory.End) bool {
	if end.Code == registry.CodeEngineOOM && end.MemoryMax == 0 {
		end.Room, _ = w.available() // unknown: nothing is raised
	}
	raised, ok := end.Raise()
	if !ok || l.Pool.VRAMBytes > 0 && raised.Host == 0 {
		return false
	}
	if err := w.peaks.Raise(memory.Key(l.Pool, l.Staged, l.Version, l.Mask), raised); err != nil {
		w.log.Warn("could not save how much memory the engine lacked", "pool_id", l.Pool.ID, "err", err)
		return false
	}
	return true
}

// Lower implements supervise.Memory.
func (w weigher) Lower(_ context.Context, l supervise.Load) {
	if err := w.peaks.Lower(memory.Key(l.Pool, l.Staged, l.Version, l.Mask)); err != nil {
		w.log.Warn("could not forget that the engine lacked memory", "pool_id", l.Pool.ID, "err", err)
	}
}
