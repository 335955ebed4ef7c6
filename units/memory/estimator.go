package memory

import (
	"context"
	"log/slog"

	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Estimator finds the need of replicas. It is safe for concurrent use.
type Estimator struct {
	peaks Peaks
	log   *slog.Logger
}

// New makes an Estimator. Peaks may be nil: nothing is measured then.
func New(peaks Peaks, log *slog.Logger) *Estimator {
	return &Estimator{peaks: peaks, log: log}
}

// Estimate returns what a replica of the pool on those targets (none: a CPU replica) needs. It reads the model's files, and remembers what it
// found as long as they do not change. Whatever it cannot find out is Unknown with the reason in Why, never an error; the only error is the
// context's.
func (e *Estimator) Estimate(ctx context.Context, p pool.Pool, staged pool.Staged, version string, targets []Target) (Need, error) {
	if err := ctx.Err(); err != nil {
		return Need{}, err
	}
	if p.VRAMBytes > 0 && len(targets) > 0 {
		return onDevices(Configured, targets, spread(p.VRAMBytes, p.TensorSplit, len(targets))), nil
	}
	return Need{Source: Unknown, Why: "not known"}, nil
}

// spread parts a number of bytes over n devices by their weights, evenly where there are not n of them. Each part is rounded up.
func spread(total uint64, weights []float64, n int) []uint64 {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	parts := make([]uint64, n)
	for i := range parts {
		parts[i] = (total + uint64(n) - 1) / uint64(n)
		if len(weights) == n && sum > 0 {
			parts[i] = min(total, uint64(float64(total)*weights[i]/sum)+1)
		}
	}
	return parts
}
