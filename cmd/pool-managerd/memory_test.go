package main

import (
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/memory"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/provision"
	"github.com/pool-managerd/pool-managerd/units/supervise"
)

// TestRaisesMainMemory: a load that the kernel killed without a limit of its own has the next start
// wait for more than is available after it, also of an engine whose need is not estimated.
func TestRaisesMainMemory(t *testing.T) {
	const gib = 1 << 30
	log := slog.New(slog.DiscardHandler)
	for name, c := range map[string]struct {
		available uint64
		err       error
		memoryMax uint64
		want      uint64 // 0: not raised
	}{
		"without_a_limit":      {8 * gib, nil, 0, 8*gib + gib/4},
		"at_memory_max":        {8 * gib, nil, 2 * gib, 2 * gib},
		"memory_is_not_known":  {0, errors.New("no /proc"), 0, 0},
		"nothing_is_available": {0, nil, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			store := provision.OpenStore(filepath.Join(t.TempDir(), "cache.db"), nil)
			defer store.Close()
			w := weigher{estimator: memory.New(store, log), peaks: store, log: log,
				available: func() (uint64, error) { return c.available, c.err }}
			load := supervise.Load{Pool: pool.Pool{ID: "a", Engine: engine.VLLM}}
			raised := w.Raise(t.Context(), load, memory.End{Run: "1", Code: registry.CodeEngineOOM, At: time.Now(),
				MemoryMax: c.memoryMax})
			need, err := w.Need(t.Context(), load)
			if err != nil || raised != (c.want > 0) || need.MainMemory() != c.want {
				t.Errorf("raised %t to %d (%v), want %d", raised, need.MainMemory(), err, c.want)
			}
			if refused := w.Try(t.Context(), "unit", load, need) != nil; refused != (c.want > c.available) {
				t.Errorf("refused with %d available: %t", c.available, refused)
			}
			if w.Lower(t.Context(), load); c.want > 0 {
				if need, _ = w.Need(t.Context(), load); need.MainMemory() != 0 {
					t.Errorf("after a run that serves it is %d", need.MainMemory())
				}
			}
		})
	}
}
