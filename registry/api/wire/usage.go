package wire

import "github.com/pool-managerd/pool-managerd/registry"

// Usage is the answer of GET /v1/usage: what changes all the time while engines work.
type Usage struct {
	Pools []PoolUsage `json:"pools"` // by id
}

// PoolUsage are the figures of one pool. Null is not known.
type PoolUsage struct {
	PoolID             string         `json:"pool_id"`
	RequestsInProgress *int           `json:"requests_in_progress"`
	QueueDepth         *int           `json:"queue_depth"`
	KVCacheUsageRatio  *float64       `json:"kv_cache_usage_ratio"`
	MemoryBytes        *uint64        `json:"memory_bytes"`
	MemoryPressure     *float64       `json:"memory_pressure_ratio"`
	Replicas           []ReplicaUsage `json:"replicas"`
}

// ReplicaUsage are those of one engine.
type ReplicaUsage struct {
	ID                 string   `json:"id"`
	RequestsInProgress *int     `json:"requests_in_progress"`
	QueueDepth         *int     `json:"queue_depth"`
	MemoryBytes        *uint64  `json:"memory_bytes"`          // of main memory, page cache included
	MemoryPressure     *float64 `json:"memory_pressure_ratio"` // share of the last 10 s with a task that waits for it
}

// Memory is the main memory of a unit. A nil field is not known.
type Memory struct {
	Bytes    *uint64
	Pressure *float64
}

// UsageOf returns the answer for the pools of a snapshot; memory reads that of a unit.
func UsageOf(s *registry.Snapshot, memory func(unit string) Memory) Usage {
	out := Usage{Pools: make([]PoolUsage, 0, len(s.Pools))}
	for _, p := range s.Pools {
		w := PoolUsage{PoolID: p.ID, RequestsInProgress: p.Work.InProgress, QueueDepth: p.QueueDepth,
			KVCacheUsageRatio: p.Work.KVCacheUsage, Replicas: make([]ReplicaUsage, 0, len(p.Replicas))}
		for i := range p.Replicas {
			r := &p.Replicas[i]
			one := ReplicaUsage{ID: r.ID, RequestsInProgress: r.Work.InProgress, QueueDepth: r.QueueDepth}
			if r.Unit != "" { // else it is not started here
				used := memory(r.Unit)
				one.MemoryBytes, one.MemoryPressure = used.Bytes, used.Pressure
				w.add(used)
			}
			w.Replicas = append(w.Replicas, one)
		}
		out.Pools = append(out.Pools, w)
	}
	return out
}

// add counts the memory of a replica that runs: bytes add up, and the worst pressure counts.
func (w *PoolUsage) add(used Memory) {
	if used.Bytes != nil {
		sum := *used.Bytes
		if w.MemoryBytes != nil {
			sum += *w.MemoryBytes
		}
		w.MemoryBytes = &sum
	}
	if used.Pressure != nil && (w.MemoryPressure == nil || *w.MemoryPressure < *used.Pressure) {
		w.MemoryPressure = used.Pressure
	}
}
