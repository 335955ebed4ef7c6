// Package registrytest has a sample host for tests of packages that show the registry: pools in
// several states and their GPUs, with every fact that a GPU can have or lack.
//
// It owns the sample host, so that the API, the metrics and poolctl show the same one. It must not
// know how they show it, and is for tests only.
package registrytest

import (
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Start is a minute before the host's last event: tests set their clocks to Start plus a minute.
func Start() time.Time { return time.UnixMilli(1_700_000_000_000) }

// after returns the moment that many seconds after Start.
func after(s int) time.Time { return Start().Add(time.Duration(s) * time.Second) }

// Pools returns one pool of each kind, sorted by id, aggregated: gemma serves, llama3-8b has one
// crashed replica of two, phi has no model, typo has an invalid file. They have no devices; OnGPUs
// adds them.
func Pools() []registry.Pool {
	pools := []registry.Pool{Gemma(), Llama(), phi(),
		{ID: "typo", LastError: registry.Fail(registry.CodeConfigInvalid, "typo.toml:3:1: unknown key slotz", "Did you mean slots?")}}
	for i := range pools {
		pools[i] = registry.Aggregate(pools[i])
	}
	return pools
}

// Gemma returns a pool of one ready replica on device 0.
func Gemma() registry.Pool {
	one, tokens, quarter := 1, 327, 0.25
	return registry.Aggregate(registry.Pool{ID: "gemma", Engine: "llamacpp",
		ModelID: "file:/srv/models/gemma-2b-q4.gguf", Wanted: true,
		Ctx: 8192, Workloads: []string{"completion"}, Replicas: []registry.Replica{
			{ID: "r0", State: registry.StateReady, Live: true, Ready: true, Reason: "the engine answers",
				Unit:     "pool-engine@gemma.r0.service",
				Endpoint: "http://127.0.0.1:21000", PID: 4711, InvocationID: "ab12ab12ab12ab12ab12ab12ab12ab12",
				SpecHash:   "0123456789ab-ba9876543210",
				DeviceMask: []string{"0"}, EngineVersion: "b5000", SlotsTotal: 4, QueueDepth: new(int),
				Work:  registry.Work{InProgress: &one, TokensInFlight: &tokens, KVCacheUsage: &quarter},
				Since: after(-7000), LastHeartbeat: after(57)},
		}})
}

// Llama returns a pool with one ready replica on device 0 and one crashed on device 1.
func Llama() registry.Pool {
	return registry.Aggregate(registry.Pool{ID: "llama3-8b", Engine: "llamacpp",
		ModelID: "file:/srv/models/llama3-8b-q4.gguf", Wanted: true, Replicas: []registry.Replica{
			{ID: "r0", State: registry.StateReady, Live: true, Ready: true, Reason: "the engine answers", Unit: `pool-engine@llama3\x2d8b.r0.service`,
				Endpoint: "http://127.0.0.1:21001", PID: 815, DeviceMask: []string{"0"}, EngineVersion: "b5000", SlotsTotal: 4, ActiveLeases: 1,
				Since: after(-86400 * 3), LastHeartbeat: after(58)},
			{ID: "r1", State: registry.StateBackoff, Reason: "the engine crashed; PID 1 will start it again", Unit: `pool-engine@llama3\x2d8b.r1.service`,
				Endpoint: "http://127.0.0.1:21002", DeviceMask: []string{"1"}, EngineVersion: "b5000", SlotsTotal: 4, RestartCount: 3, RestartsSinceStable: 1, Backoff: 5100 * time.Millisecond,
				Since: after(59), LastError: crash()},
		}})
}

func crash() *registry.Failure {
	f := registry.Fail(registry.CodeEngineCrashed, "exited with status 1",
		"Read the engine's log: poolctl logs llama3-8b")
	f.Ending = &registry.Ending{Result: "exit-code", ExitStatus: 1, Uptime: 90 * time.Second, RestartCount: 2,
		EngineVersion: "b5000",
		Lines: []string{"srv  update_slots: all slots are idle",
			"terminate called after throwing an instance of 'std::runtime_error'"}}
	return f
}

func phi() registry.Pool {
	return registry.Pool{ID: "phi", Engine: "llamacpp", ModelID: "file:/srv/models/phi.gguf", Wanted: true,
		Replicas: []registry.Replica{
			{ID: "r0", State: registry.StateFailed, Reason: "the engine could not be prepared",
				Unit: "pool-engine@phi.r0.service", Since: Start(),
				LastError: registry.Fail(registry.CodeModelNotFound, "/srv/models/phi.gguf: no such file",
					"Copy the model there, or correct model in phi.toml.")},
		}}
}

// Problems returns two invalid pool files, one of the pool typo and one of no pool.
func Problems() []registry.Problem {
	return []registry.Problem{
		{File: "/etc/pool-managerd/pools.d/a b.toml", Text: `/etc/pool-managerd/pools.d/a b.toml: the file's name is no pool id`, Hint: "Rename the file, or give it an id."},
		{File: "/etc/pool-managerd/pools.d/typo.toml", PoolID: "typo", Text: "typo.toml:3:1: unknown key slotz", Hint: "Did you mean slots?"},
	}
}
