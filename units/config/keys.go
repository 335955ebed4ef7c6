package config

import (
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/units/config/strict"
	"github.com/pool-managerd/pool-managerd/units/confine"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// MaxReplicas bounds the replicas of one pool: eight GPUs with seven partitions each, rounded up.
const MaxReplicas = 64

// builtin is a pool with nothing but the defaults of this program. The Default column of the rows
// below repeats them for the reference; a test compares the two.
func builtin() pool.Pool {
	return pool.Pool{
		Replicas:     1,
		Provisioning: pool.Provisioning{Mode: pool.ModeBinary, Runtime: pool.RuntimeSystemd},
		Health: pool.Health{Interval: 5 * time.Second, Timeout: 2 * time.Second, Failures: 3, Successes: 1,
			StartTimeout: 5 * time.Minute, Mode: pool.FailFast, Probe: pool.ProbeHTTP, EscalateAfter: 2 * time.Minute,
			EscalateLimit:    30 * time.Minute,
			GenerateInterval: time.Minute, GenerateTimeout: time.Minute, GenerateFailures: 2},
		Restart: pool.Restart{OnExit: pool.ExitRestarts, Initial: time.Second, Factor: 2, Max: time.Minute, Jitter: 0.1,
			ClassFactor: 2,
			ResetAfter:  10 * time.Minute, StormRestarts: 10, StormWindow: time.Minute,
			BreakerFailures: 5, BreakerWindow: 10 * time.Minute, BreakerTimeout: 5 * time.Minute, BreakerMax: time.Hour,
			BreakerStable: time.Minute},
		Drain: pool.Drain{Deadline: 30 * time.Second}, GPUProof: pool.ProofAll, Hints: pool.Hints{Benchmark: true},
	}
}

// draft is a pool while its file is read, with what pool.Pool has no field for.
type draft struct {
	pool.Pool
	named   bool       // the file has the key id
	masks   [][]string // devices as written: one flat mask, or one for each replica
	nested  bool
	devices bool         // devices was given and good
	host    Provisioning // of config.toml
}

func poolKeys() []strict.Key[draft] {
	keys := strict.Lift("", sharedKeys(), func(d *draft) *pool.Pool { return &d.Pool })
	return slices.Insert(keys, 1, identityKeys()...) // a reader looks for the engine first
}

// identityKeys belong to one pool and have no default for all pools.
func identityKeys() []strict.Key[draft] {
	return []strict.Key[draft]{
		{Path: "id", Default: "the file's name without `.toml`", Type: idType(),
			Doc: "Name of the pool in units, logs, metrics and the API."},
		{Path: "model", Default: "required, but for engine " + code(engine.WithoutModel()), Type: modelType(),
			Doc: "What to serve: `file:` and an absolute path to a file or a directory, which every user must be able to read; or a model that is downloaded: `hf:org/name:Q4_K_M`, `https://host/a.gguf`, `s3://bucket/a.gguf`, `oci:host/name:tag` ([all forms](../models.md))."},
		{Path: "prefetch", Default: "none", Type: strict.ToList("models that are downloaded", prefetched, func(d *draft) *[]string { return &d.Prefetch }),
			Doc: "Models that the pool will change to (`poolctl reload POOL --model …`, or by its file): they are downloaded into the cache beforehand, while the pool serves, and are kept there as long as this names them."},
		{Path: "model_digest", Type: strict.ToString("string", `"sha256:" and 64 hex digits`, digest, func(d *draft) *string { return &d.ModelDigest }),
			Doc: "Verified before the engine starts, once for each version of the file; a mismatch is `MODEL_DIGEST_MISMATCH`. Without it the log notes that the model is not verified."},
		{Path: "devices", Default: "[]", Type: devicesType(),
			Doc: "The GPUs that the engine sees, in this order: index, `\"GPU-…\"` UUID or the first digits of one (at least four), PCI bus id, or one `\"MIG-…\"` UUID. Resolved to full UUIDs on the host: see [GPUs](../gpus.md). With `replicas` above 1, one list for each replica: `[[0], [1]]`. Empty only where `require_gpu = false`."},
		{Path: "shared", Default: "false", Type: strict.ToBool(func(d *draft) *bool { return &d.Shared }),
			Doc: "Whether other replicas may use the same devices. Every pool that shares a device must set it; otherwise a device belongs to one replica."},
		{Path: "replicas", Default: "1", Type: strict.ToInt(1, MaxReplicas, func(d *draft) *int { return &d.Replicas }),
			Doc: "How many engines serve the same model."},
		{Path: "tensor_split", Type: splitType(),
			Doc: "How much of the model each device of the mask holds, in the order of `devices`: one share for each, and they sum to 1. " + splitting()},
		{Path: "vram", Default: "estimated", Type: strict.ToSize(1<<20, 1<<50, func(d *draft) *uint64 { return &d.VRAMBytes }),
			Doc: "GPU memory that each replica needs."},
		{Path: "files", Default: "[]", Type: strict.ToList("absolute paths of files and directories", confine.Unshown, func(d *draft) *[]string { return &d.Files }),
			Doc: "Files and directories of the host that the engine sees read-only, beside its model. Those that known options name (`--mmproj`, `--lora`, `--chat-template`, …) are found by themselves: see [Files of a pool](../admin-guide.md#files-of-a-pool). The engine's user, which is its own, must be able to read them. The engine does not start without them, and a file that was replaced is another version at the next reload."},
		{Path: "api_key_file", Default: "none", Type: strict.ToString("path", "an absolute path", keyFile, func(d *draft) *string { return &d.APIKeyFile }),
			Doc: "File with the key that the engine asks its callers for, owned by root with mode 0600. PID 1 hands it to the engine, and the manager sends it with everything that it asks: see [Secrets](../admin-guide.md#secrets). Of an external engine, the key that the manager sends. A change of the file is another version at the next reload."},
		{Path: "writable", Default: "[]", Type: strict.ToList("absolute paths outside of the system's directories", confine.Unwritable, func(d *draft) *[]string { return &d.Writable }),
			Doc: "Directories and files of the host that the engine may write to, beside its state directory: for `--slot-save-path`, `--log-file` and the like. They must exist, and others must be able to write to them (`install -d -m 1777 /srv/slots`). `[policy] allowed_writable` of the host may refuse one."},
		{Path: "port", Default: "one of `port_range`", Type: strict.ToInt(minPort, maxPort, func(d *draft) *int { return &d.Port }),
			Doc: "TCP port on 127.0.0.1 of the first replica; the next has the next port. Two pools may not overlap."},
	}
}

// sharedKeys are allowed in a pool file and, as a default for all pools, under [defaults].
func sharedKeys() []strict.Key[pool.Pool] {
	keys := []strict.Key[pool.Pool]{
		{Path: "engine", Default: "required", Type: strict.ToWord(engine.Kinds(), func(p *pool.Pool) *string { return &p.Engine }),
			Doc: "What serves the model: " + engineDocs() + "."},
		{Path: "ctx", Default: "0", Type: strict.ToInt(0, 1<<24, func(p *pool.Pool) *int { return &p.Ctx }),
			Doc: "Context length in tokens that one request may use; 0 is the engine's own."},
		{Path: "slots", Default: "0", Type: strict.ToInt(0, 4096, func(p *pool.Pool) *int { return &p.Slots }),
			Doc: "Requests that one replica works on at the same time; with 0 the engine decides, and reports the number once it is ready."},
		{Path: "args", Default: "[]", Type: strict.ToList("strings, one argument each", strict.Any, func(p *pool.Pool) *[]string { return &p.Args }),
			Doc: "Appended to the engine's own arguments unchanged: nothing is expanded, and there is no shell. A file's list replaces that of `[defaults]`."},
		{Path: "gpu_proof", Default: `"all"`, Type: strict.ToWord(pool.Proofs(), func(p *pool.Pool) *string { return &p.GPUProof }),
			Doc: "What proves that the engine uses its GPUs: NVML lists a process of its unit with memory on `all` devices, or on `any` one, within five seconds after it answers; otherwise the start fails with `GPU_UNAVAILABLE`. `off` is for an engine that takes GPU memory with its first request only, or is meant to run on the CPU. Without effect where `devices` is empty. See [GPUs](../gpus.md#proof-of-the-gpu)."},
		{Path: "memory_check", Default: "by the model", Type: strict.ToWord(pool.MemoryChecks(), func(p *pool.Pool) *string { return &p.MemoryCheck }),
			Doc: "What follows where the engine needs more main memory than is available, or than `memory_max` allows: `refuse` (the pool waits with `INSUFFICIENT_RAM`), `warn` (it is started, with a warning in the log), or `off` (not checked). Without the key, the part of a model that the engine maps only warns, since the kernel reads again what does not fit, and the rest is refused. See [memory](memory.md)."},
		{Path: "env_file", Default: "none", Type: envFileType(),
			Doc: "File with more variables, or a list of them, in the format of systemd's `EnvironmentFile=`: `NAME=value` on each line, values in quotes where they need them, comments behind `#`. PID 1 reads it at each start, so that secrets in it are in no property of the unit; root alone needs to read it (mode 0600). A variable of `[env]` wins over one of a file, and a later file over an earlier one. The pool waits while a file is missing or has a line that PID 1 would ignore, and a changed file is another version at the next reload: see [Secrets](../admin-guide.md#secrets)."},
		{Path: "env.*", Type: envType(),
			Doc: "Environment of the engine, and of the question for its version. Keys of a file are added to those of `[defaults]`."},
	}
	keys = append(keys, strict.Lift("provisioning", provisionKeys(), func(p *pool.Pool) *pool.Provisioning {
		return &p.Provisioning
	})...)
	keys = append(keys, strict.Lift("limits", limitKeys(), func(p *pool.Pool) *pool.Limits { return &p.Limits })...)
	keys = append(keys, strict.Lift("limits", processKeys(), func(p *pool.Pool) *pool.Process { return &p.Process })...)
	keys = append(keys, stateKey())
	keys = append(keys, strict.Lift("health", healthKeys(), func(p *pool.Pool) *pool.Health { return &p.Health })...)
	keys = append(keys, strict.Lift("restart", restartKeys(), func(p *pool.Pool) *pool.Restart {
		return &p.Restart
	})...)
	keys = append(keys, strict.Lift("drain", drainKeys(), func(p *pool.Pool) *pool.Drain { return &p.Drain })...)
	keys = append(keys, strict.Lift("hints", hintKeys(), func(p *pool.Pool) *pool.Hints { return &p.Hints })...)
	return append(keys, strict.Lift("sandbox", sandboxKeys(), func(p *pool.Pool) *pool.Sandbox {
		return &p.Sandbox
	})...)
}
