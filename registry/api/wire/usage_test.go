package wire

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/registry"
)

// TestUsageOf: bytes of replicas add up, the worst pressure counts, and what is not known is null.
func TestUsageOf(t *testing.T) {
	units := map[string]Memory{
		"a.r0": {Bytes: new(uint64(100)), Pressure: new(0.25)},
		"a.r1": {Bytes: new(uint64(50)), Pressure: new(0.5)},
		"a.r2": {},
	}
	replica := func(id, unit string) registry.Replica { return registry.Replica{ID: id, Unit: unit} }
	busy := replica("r0", "a.r0")
	busy.Work.InProgress, busy.QueueDepth = new(2), new(1)
	for _, c := range []struct {
		name string
		pool registry.Pool
		want string
	}{
		{"two_replicas_and_one_without_figures", registry.Pool{ID: "a", QueueDepth: new(1),
			Work:     registry.Work{InProgress: new(2), KVCacheUsage: new(0.125)},
			Replicas: []registry.Replica{busy, replica("r1", "a.r1"), replica("r2", "a.r2")}},
			`{"pools":[{"pool_id":"a","requests_in_progress":2,"queue_depth":1,"kv_cache_usage_ratio":0.125,"memory_bytes":150,"memory_pressure_ratio":0.5,"replicas":[` +
				`{"id":"r0","requests_in_progress":2,"queue_depth":1,"memory_bytes":100,"memory_pressure_ratio":0.25},` +
				`{"id":"r1","requests_in_progress":null,"queue_depth":null,"memory_bytes":50,"memory_pressure_ratio":0.5},` +
				`{"id":"r2","requests_in_progress":null,"queue_depth":null,"memory_bytes":null,"memory_pressure_ratio":null}]}]}`},
		{"an_engine_that_is_not_started_here", registry.Pool{ID: "b", Replicas: []registry.Replica{replica("r0", "")}},
			`{"pools":[{"pool_id":"b","requests_in_progress":null,"queue_depth":null,"kv_cache_usage_ratio":null,"memory_bytes":null,"memory_pressure_ratio":null,"replicas":[` +
				`{"id":"r0","requests_in_progress":null,"queue_depth":null,"memory_bytes":null,"memory_pressure_ratio":null}]}]}`},
		{"nothing_runs", registry.Pool{ID: "c"},
			`{"pools":[{"pool_id":"c","requests_in_progress":null,"queue_depth":null,"kv_cache_usage_ratio":null,"memory_bytes":null,"memory_pressure_ratio":null,"replicas":[]}]}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			read := func(unit string) Memory {
				m, known := units[unit]
				if !known {
					t.Errorf("the memory of %q was read", unit)
				}
				return m
			}
			if got := encoded(t, UsageOf(&registry.Snapshot{Pools: []*registry.Pool{&c.pool}}, read)); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}
