package config

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func provisionKeys() []strict.Key[pool.Provisioning] {
	return []strict.Key[pool.Provisioning]{
		{Path: "mode", Default: `"binary"`, Type: modeType(),
			Doc: "Where the engine comes from. `binary` runs a program of this host. `external` is an engine at `url` that another program runs: it is probed, leased and drained, and never started or stopped. `container` runs a program of an `image`, which needs no container engine: see [Containers](../containers.md)."},
		{Path: "binary", Default: "the engine's usual name", Type: strict.ToString("path", "an absolute path, or a name that is looked up on PATH", binary, func(p *pool.Provisioning) *string { return &p.Binary }),
			Doc: "The engine's program; in mode `container`, a program of the image: by its path there, or a name that is looked up on the image's PATH. " + withoutBinary()},
		{Path: "image", Default: "required in mode `container`", Type: imageType(),
			Doc: "Image of mode `container`, with the registry's host: `ghcr.io/org/name:tag`, or `@sha256:…` for certain content. It is downloaded as policy allows, and unpacked once; what a tag meant then is kept."},
		{Path: "runtime", Default: `"systemd"`, Type: runtimeType(),
			Doc: "What runs the image: `systemd`, a unit like that of any engine, with the image as its root directory; `podman` in the unit, with a weaker sandbox; or `docker`, where `[policy] allow_docker` says so. `[defaults.provisioning]` of config.toml sets it for all pools. See [Containers](../containers.md#podman)."},
		{Path: "url", Default: "required in mode `external`", Type: strict.ToString("URL", `"http://" or "https://", a host and a port`, endpointURL, func(p *pool.Provisioning) *string { return &p.URL }),
			Doc: "Where the engine of mode `external` serves."},
	}
}

func limitKeys() []strict.Key[pool.Limits] {
	const none = "no limit"
	weight := func(get func(*pool.Limits) *uint64) strict.Type[pool.Limits] { return strict.ToInt(1, 10000, get) }
	memory := func(get func(*pool.Limits) *uint64) strict.Type[pool.Limits] { return strict.ToSize(1<<20, 1<<50, get) }
	return []strict.Key[pool.Limits]{
		{Path: "memory_max", Default: none, Type: memory(func(l *pool.Limits) *uint64 { return &l.MemoryMaxBytes }),
			Doc: "Main memory of each replica; above it the kernel kills the engine (`ENGINE_OOM`). Of a model that is mapped into memory, the part that was read counts."},
		{Path: "memory_high", Default: none, Type: memory(func(l *pool.Limits) *uint64 { return &l.MemoryHighBytes }),
			Doc: "Main memory above which the kernel slows the engine down and reclaims; at most `memory_max`."},
		{Path: "cpu_quota", Default: none, Type: percentType(func(l *pool.Limits) *int { return &l.CPUQuotaPercent }),
			Doc: "CPU time of each replica in percent of one CPU: `\"150%\"` is one and a half."},
		{Path: "cpus", Default: "all", Type: strict.ToString("string", `a list of CPUs, as "0-3,8"`, cpuList, func(l *pool.Limits) *string { return &l.CPUs }),
			Doc: "The CPUs that the engine may run on."},
		{Path: "cpu_weight", Default: "the kernel's, 100", Type: weight(func(l *pool.Limits) *uint64 { return &l.CPUWeight }),
			Doc: "Share of the CPU when there is not enough for all."},
		{Path: "io_weight", Default: "the kernel's, 100", Type: weight(func(l *pool.Limits) *uint64 { return &l.IOWeight }),
			Doc: "Share of the disks when there is not enough for all."},
		{Path: "tasks_max", Default: "16384", Type: strict.ToInt(1, 1<<22, func(l *pool.Limits) *uint64 { return &l.TasksMax }),
			Doc: "Processes and threads of each replica."},
	}
}

func healthKeys() []strict.Key[pool.Health] {
	return append(probeKeys(), generateKeys()...)
}

func probeKeys() []strict.Key[pool.Health] {
	return []strict.Key[pool.Health]{
		{Path: "probe", Default: `"http"`, Type: strict.ToWord([]string{pool.ProbeHTTP, pool.ProbeGRPC, pool.ProbeTCP}, func(h *pool.Health) *string { return &h.Probe }),
			Doc: "Kind of health probe: `http` is a GET, `grpc` the health protocol `grpc.health.v1` without TLS, `tcp` only a connection, which an engine that hangs accepts, too."},
		{Path: "path", Default: "the engine's own", Type: strict.ToString("string", `a path as "/health"`, httpPath, func(h *pool.Health) *string { return &h.Path }),
			Doc: "HTTP path of the probe; probe `http` only."},
		{Path: "body", Default: "any", Type: strict.ToString("string", "a regular expression (RE2) of at most 256 bytes", bodyPattern, func(h *pool.Health) *string { return &h.Body }),
			Doc: "What the first 64 KiB of a healthy answer's body must match, somewhere: `'\"status\": *\"ok\"'`; probe `http` only."},
		{Path: "grpc_service", Default: "the whole server", Type: strict.ToString("string", "the name of a service of at most 256 bytes, as package.Service", grpcService, func(h *pool.Health) *string { return &h.GRPCService }),
			Doc: "Service whose health is requested; probe `grpc` only."},
		{Path: "interval", Default: `"5s"`, Type: strict.ToDuration(100*time.Millisecond, time.Hour, func(h *pool.Health) *time.Duration { return &h.Interval }),
			Doc: "Time between two probes of a running replica."},
		{Path: "timeout", Default: `"2s"`, Type: strict.ToDuration(10*time.Millisecond, 10*time.Minute, func(h *pool.Health) *time.Duration { return &h.Timeout }),
			Doc: "How long one probe may take; at most `interval`, which also limits the default."},
		{Path: "failures", Default: "3", Type: strict.ToInt(1, 1000, func(h *pool.Health) *int { return &h.Failures }),
			Doc: "Failed probes in a row before the replica becomes unready."},
		{Path: "successes", Default: "1", Type: strict.ToInt(1, 1000, func(h *pool.Health) *int { return &h.Successes }),
			Doc: "Good probes in a row before it is ready again."},
		{Path: "start_timeout", Default: `"5m"`, Type: strict.ToDuration(time.Second, 24*time.Hour, func(h *pool.Health) *time.Duration { return &h.StartTimeout }),
			Doc: "How long a load may show no progress (no log line, no CPU time, no input) until it counts as stalled. What the gate's own requests cause, such as lines of an access log, is no progress. A slow load that makes progress is not limited."},
		{Path: "start_deadline", Default: `"0s"`, Type: strict.ToDuration(0, 7*24*time.Hour, func(h *pool.Health) *time.Duration { return &h.StartDeadline }),
			Doc: "How long a load may take at all, with progress or without, until it fails; `\"0s\"`: without a limit."},
		{Path: "mode", Default: `"fail-fast"`, Type: strict.ToWord([]string{pool.FailFast, pool.FailOpen}, func(h *pool.Health) *string { return &h.Mode }),
			Doc: "What failed probes do: `fail-fast` makes the replica unready; `fail-open`, for development, only logs and restarts nothing."},
		{Path: "escalate_after", Default: `"2m"`, Type: strict.ToDuration(0, 24*time.Hour, func(h *pool.Health) *time.Duration { return &h.EscalateAfter }),
			Doc: "How long a replica may be unready because of failed probes before its engine is killed and restarted, with the backoff of `[restart]`; `\"0s\"`: never restarted. While it only answers late, the time counts from when it last worked (CPU time, input, output, tokens), or last accepted connections while one user has 64 or more to its port. A frozen unit is not restarted."},
		{Path: "escalate_limit", Default: `"30m"`, Type: strict.ToDuration(0, 7*24*time.Hour, func(h *pool.Health) *time.Duration { return &h.EscalateLimit }),
			Doc: "How long a replica that answers late and works may be unready before it is restarted all the same; `\"0s\"`: without a limit."},
	}
}

// generateKeys are about generations of one token.
func generateKeys() []strict.Key[pool.Health] {
	return []strict.Key[pool.Health]{
		{Path: "generate_interval", Default: `"1m"`, Type: strict.ToDuration(0, 24*time.Hour, func(h *pool.Health) *time.Duration { return &h.GenerateInterval }),
			Doc: "Time between two generations of one token, which find an engine that answers its probe and hangs; none is made if other requests made progress since. An engine that serves embeddings or ranks alone is asked for one of those. `\"0s\"`: none. " + withoutGeneration()},
		{Path: "generate_timeout", Default: `"1m"`, Type: strict.ToDuration(100*time.Millisecond, time.Hour, func(h *pool.Health) *time.Duration { return &h.GenerateTimeout }),
			Doc: "How long such a generation may take, waiting for a slot included."},
		{Path: "generate_failures", Default: "2", Type: strict.ToInt(1, 1000, func(h *pool.Health) *int { return &h.GenerateFailures }),
			Doc: "Failed generations in a row before the replica becomes unready. One that is late or refused for load does not count while other requests make progress."},
		{Path: "generate_path", Default: "the engine's own", Type: strict.ToString("string", `a path as "/v1/completions"`, httpPath, func(h *pool.Health) *string { return &h.GeneratePath }),
			Doc: "HTTP path that such a generation is sent to by POST; `generate_body` goes with it. Status 200 and a body that is not empty are a success."},
		{Path: "generate_body", Default: "the engine's own", Type: strict.ToString("string", "JSON of at most 4096 bytes", jsonBody, func(h *pool.Health) *string { return &h.GenerateBody }),
			Doc: "What is sent: `'{\"model\":\"m\",\"prompt\":\"a\",\"max_tokens\":1}'`."},
	}
}

func restartKeys() []strict.Key[pool.Restart] {
	return []strict.Key[pool.Restart]{
		{Path: "on_exit", Default: `"restart"`, Type: strict.ToWord([]string{pool.ExitRestarts, pool.ExitStops}, func(r *pool.Restart) *string { return &r.OnExit }),
			Doc: "What follows when the engine ends by itself with exit status 0, or by a SIGTERM that neither systemd nor the manager sent: `restart` starts it again, as after a crash; `stop` leaves it stopped. Other ends are always crashes, and an engine that `systemctl stop` stopped stays stopped."},
		{Path: "initial", Default: `"1s"`, Type: strict.ToDuration(100*time.Millisecond, time.Hour, func(r *pool.Restart) *time.Duration { return &r.Initial }),
			Doc: "Time from a crash to the next start."},
		{Path: "factor", Default: "2", Type: strict.ToFloat(1, 10, func(r *pool.Restart) *float64 { return &r.Factor }),
			Doc: "Factor by which that time grows with each crash."},
		{Path: "max", Default: `"1m"`, Type: strict.ToDuration(100*time.Millisecond, 24*time.Hour, func(r *pool.Restart) *time.Duration { return &r.Max }),
			Doc: "The longest time; at least `initial`, which also raises the default."},
		{Path: "jitter", Default: "0.1", Type: strict.ToFloat(0, 1, func(r *pool.Restart) *float64 { return &r.Jitter }),
			Doc: "Fraction of the time by which it varies, so that engines that crashed together do not start together."},
		{Path: "class_factor", Default: "2", Type: strict.ToFloat(1, 10, func(r *pool.Restart) *float64 { return &r.ClassFactor }),
			Doc: "Factor by which that time is longer, beyond `max` too, after a CUDA or driver error: a driver needs time to recover and to free memory."},
		{Path: "reset_after", Default: `"10m"`, Type: strict.ToDuration(time.Second, 7*24*time.Hour, func(r *pool.Restart) *time.Duration { return &r.ResetAfter }),
			Doc: "Earlier crashes no longer count after a run that was ready for this long."},
		{Path: "storm_restarts", Default: "10", Type: strict.ToInt(1, 1000, func(r *pool.Restart) *int { return &r.StormRestarts }),
			Doc: "More crashes than this within `storm_window` are a storm. During a storm, starts are limited to this number per window."},
		{Path: "storm_window", Default: `"1m"`, Type: strict.ToDuration(time.Second, 24*time.Hour, func(r *pool.Restart) *time.Duration { return &r.StormWindow }),
			Doc: "The sliding time over which crashes are counted for `storm_restarts`."},
		{Path: "breaker_failures", Default: "5", Type: strict.ToInt(1, 1000, func(r *pool.Restart) *int { return &r.BreakerFailures }),
			Doc: "Failed runs of one class, within `breaker_window`, after which the breaker opens and no further start is made."},
		{Path: "breaker_window", Default: `"10m"`, Type: strict.ToDuration(time.Second, 7*24*time.Hour, func(r *pool.Restart) *time.Duration { return &r.BreakerWindow }),
			Doc: "The time over which they are counted. It is extended if the delays and loads of that many starts take longer."},
		{Path: "breaker_timeout", Default: `"5m"`, Type: strict.ToDuration(time.Second, 7*24*time.Hour, func(r *pool.Restart) *time.Duration { return &r.BreakerTimeout }),
			Doc: "How long the breaker stays open before a single trial start. The time doubles with each failed trial."},
		{Path: "breaker_max", Default: `"1h"`, Type: strict.ToDuration(time.Second, 7*24*time.Hour, func(r *pool.Restart) *time.Duration { return &r.BreakerMax }),
			Doc: "The longest of these times; at least `breaker_timeout`, which also raises the default."},
		{Path: "breaker_stable", Default: `"1m"`, Type: strict.ToDuration(time.Second, 7*24*time.Hour, func(r *pool.Restart) *time.Duration { return &r.BreakerStable }),
			Doc: "How long the engine must be ready after the trial start before the breaker closes."},
	}
}

func drainKeys() []strict.Key[pool.Drain] {
	return []strict.Key[pool.Drain]{
		{Path: "deadline", Default: `"30s"`, Type: strict.ToDuration(0, 24*time.Hour,
			func(d *pool.Drain) *time.Duration {
				return &d.Deadline
			}),
			Doc: "How long running requests may continue when a replica must stop."},
	}
}

func hintKeys() []strict.Key[pool.Hints] {
	const doc = "Whether the engine is measured by some requests of the manager's own, once after a new " +
		"combination of engine, version, model, settings and devices serves for the first time: see " +
		"[performance](../performance.md). Not while leases are held; an external engine never. With `false`, " +
		"performance hints follow the engine's own counters alone, and `poolctl bench` measures when it is asked to."
	return []strict.Key[pool.Hints]{
		{Path: "benchmark", Default: "true", Type: strict.ToBool(func(h *pool.Hints) *bool { return &h.Benchmark }),
			Doc: doc},
	}
}
