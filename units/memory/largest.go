package memory

import (
	"context"
	"sort"

	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// ctxStep is the step of the search, in tokens: llama.cpp rounds up to it.
const ctxStep = 256

// LargestCtx returns the longest context of one request that fits, up to the one that the model was
// trained for; 0 if not even the shortest fits or the need is unknown. It is for GGUF models: other
// engines use all memory that is available.
func (e *Estimator) LargestCtx(ctx context.Context, p pool.Pool, staged pool.Staged, targets []devices.Target,
	room func(Need) bool) (int, error) {
	need, err := e.Estimate(ctx, p, staged, "", targets)
	if err != nil || need.Source != Estimated || need.Trained == 0 {
		return 0, err
	}
	limit := int(min(need.Trained, engine.MaxCtx))
	steps := (limit + ctxStep - 1) / ctxStep
	fits := sort.Search(steps, func(i int) bool {
		p.Ctx = min((i+1)*ctxStep, limit)
		if need, err = e.byEngine(ctx, p, staged, targets); err != nil {
			return true
		}
		return !room(need)
	})
	return min(fits*ctxStep, limit), err
}
