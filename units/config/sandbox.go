package config

import (
	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func sandboxKeys() []strict.Key[pool.Sandbox] {
	return []strict.Key[pool.Sandbox]{
		{Path: "shm", Default: "`memory_max`, else half of the host's memory",
			Type: strict.ToSize(1<<20, 1<<50, func(s *pool.Sandbox) *uint64 {
				return &s.ShmBytes
			}),
			Doc: "Size of the engine's own `/dev/shm`, by which the processes of an engine pass tensors to each " +
				"other. What is in it counts as the engine's memory."},
	}
}
