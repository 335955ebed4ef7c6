package render_test

import (
	"fmt"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// halves returns the identity and the limits of an input's hash.
func halves(t *testing.T, in render.Input) (identity, limits string) {
	t.Helper()
	hash := render.SpecHash(in)
	if !regexp.MustCompile(`^[0-9a-f]{12}-[0-9a-f]{12}$`).MatchString(hash) {
		t.Fatalf("hash %q", hash)
	}
	identity, limits, _ = strings.Cut(hash, "-")
	return identity, limits
}

// TestSpecHash says what needs a new process, what a running unit takes, and what neither.
func TestSpecHash(t *testing.T) {
	full := func(p *pool.Pool) {
		p.Env, p.Args = map[string]string{"A": "1"}, []string{"--jinja"}
		p.TensorSplit, p.Ctx, p.Slots = []float64{0.6, 0.4}, 4096, 2
		p.Limits = pool.Limits{MemoryMaxBytes: 1 << 30}
		p.ModelDigest = "sha256:00"
	}
	pair := gpus([]string{"0", "1"}, []string{"2", "3"})
	base := input(pair, with(full))
	const process, live, nothing = "process", "live", "nothing"
	cases := []struct {
		name   string
		needs  string
		change change
	}{
		{"engine", process, func(in *render.Input) { in.Pool.Engine = engine.Program }},
		{"binary", process, func(in *render.Input) { in.Prepared.Binary = "/opt/llama-server" }},
		{"image", process, func(in *render.Input) { in.Prepared.Image = &pool.Image{Digest: "sha256:aa"} }},
		{"driver_in_an_image", nothing, func(in *render.Input) {
			in.Prepared.Image = &pool.Image{Driver: []pool.Mount{{Host: "/a", Inside: "/b"}}}
		}},
		{"variables_of_an_image", nothing, func(in *render.Input) { in.Prepared.Env = map[string]string{"A": "b"} }},
		{"version_by_who_prepared_it", nothing, with(func(p *pool.Pool) { p.Provisioning.Version = "b6123" })},
		{"args", process, args("--jinja", "-v")},
		{"args_order", process, args("-v", "--jinja")},
		{"env", process, with(func(p *pool.Pool) { p.Env = map[string]string{"A": "2"} })},
		{"env_key", process, with(func(p *pool.Pool) { p.Env = map[string]string{"B": "1"} })},
		{"model_path", process, func(in *render.Input) { in.Staged.Path = "/srv/models/b.gguf" }},
		{"model_digest_demanded", process, with(func(p *pool.Pool) { p.ModelDigest = "sha256:01" })},
		{"model_replaced", process, with(func(p *pool.Pool) { p.Contents = "0a1b" })},
		{"devices", process, gpus([]string{"1", "0"})},
		{"port", process, func(in *render.Input) { in.Port++ }},
		{"ctx", process, with(func(p *pool.Pool) { p.Ctx = 8192 })},
		{"slots", process, with(func(p *pool.Pool) { p.Slots = 3 })},
		{"tensor_split", process, with(func(p *pool.Pool) { p.TensorSplit = []float64{0.5, 0.5} })},
		{"health_path", process, with(func(p *pool.Pool) { p.Health.Path = "/ready" })},
		{"start_timeout", process, with(func(p *pool.Pool) { p.Health.StartTimeout = time.Minute })},
		{"start_deadline", process, with(func(p *pool.Pool) { p.Health.StartDeadline = time.Hour })},
		{"restart_initial", process, with(func(p *pool.Pool) { p.Restart.Initial = 2 * time.Second })},
		{"restart_factor", process, with(func(p *pool.Pool) { p.Restart.Factor = 3 })},
		{"restart_max", process, with(func(p *pool.Pool) { p.Restart.Max = 2 * time.Minute })},
		{"restart_jitter", process, with(func(p *pool.Pool) { p.Restart.Jitter = 0.1 })},
		{"breaker_failures", process, with(func(p *pool.Pool) { p.Restart.BreakerFailures = 9 })},
		{"restart_on_exit", process, with(func(p *pool.Pool) { p.Restart.OnExit = pool.ExitStops })},
		{"restart_on_exit_that_is_the_default", nothing, with(func(p *pool.Pool) { p.Restart.OnExit = pool.ExitRestarts })},
		{"breaker_window", process, with(func(p *pool.Pool) { p.Restart.BreakerWindow = time.Hour })},

		{"sandbox_shm", process, with(func(p *pool.Pool) { p.Sandbox.ShmBytes = 1 << 30 })},

		{"sandbox_allow", process, with(func(p *pool.Pool) { p.Sandbox.Allow = []string{relax.Netlink} })},
		{"env_file", process, with(func(p *pool.Pool) { p.EnvFiles = []string{"/etc/llm/env"} })},
		{"env_file_value", nothing, with(func(p *pool.Pool) { // which is another version by Contents
			p.FileEnv = map[string]pool.FileVariable{"B": {Value: "2"}}
		})},
		{"api_key_file", process, with(func(p *pool.Pool) { p.APIKeyFile = "/etc/key" })},
		{"files", process, with(func(p *pool.Pool) { p.Files = []string{"/srv/a.jinja"} })},
		{"gpu_proof", process, with(func(p *pool.Pool) { p.GPUProof = pool.ProofOff })},
		{"writable", process, with(func(p *pool.Pool) { p.Writable = []string{"/srv/slots"} })},
		{"memlock", process, with(func(p *pool.Pool) { p.Process.MemlockBytes = 1 << 30 })},
		{"nofile", process, with(func(p *pool.Pool) { p.Process.OpenFiles = 4096 })},
		{"nice", process, with(func(p *pool.Pool) { p.Process.Nice = 5 })},
		{"numa_policy", process, with(func(p *pool.Pool) { p.Process.NUMAPolicy = pool.NUMALocal })},
		{"numa_nodes", process, with(func(p *pool.Pool) { p.Process.NUMANodes = "0" })},

		{"sandbox_network", process, with(func(p *pool.Pool) { p.Sandbox.Network = pool.NetworkNone })},
		{"sandbox_network_that_is_the_default", process, with(func(p *pool.Pool) { p.Sandbox.Network = pool.NetworkLoopback })},
		{"forwarder_of_the_host", nothing, func(in *render.Input) { in.Host.Forwarder, in.Prepared.Version = "/usr/lib/x", "0.7.0" }},
		{"memory_max", live, with(func(p *pool.Pool) { p.Limits.MemoryMaxBytes = 1 << 31 })},
		{"memory_high", live, with(func(p *pool.Pool) { p.Limits.MemoryHighBytes = 1 << 29 })},
		{"cpu_quota", live, with(func(p *pool.Pool) { p.Limits.CPUQuotaPercent = 50 })},
		{"cpus", live, with(func(p *pool.Pool) { p.Limits.CPUs = "0" })},
		{"cpu_weight", live, with(func(p *pool.Pool) { p.Limits.CPUWeight = 7 })},
		{"io_weight", live, with(func(p *pool.Pool) { p.Limits.IOWeight = 7 })},
		{"tasks_max", live, with(func(p *pool.Pool) { p.Limits.TasksMax = 7 })},
		{"no_limits", live, with(func(p *pool.Pool) { p.Limits = pool.Limits{} })},

		{"health_probe", process, with(func(p *pool.Pool) { p.Health.Probe = pool.ProbeTCP })},
		{"health_body", process, with(func(p *pool.Pool) { p.Health.Body = "ok" })},
		{"health_probe_that_is_the_default", nothing, with(func(p *pool.Pool) { p.Health.Probe = pool.ProbeHTTP })},
		{"health_grpc_service_of_another_probe", nothing, with(func(p *pool.Pool) { p.Health.GRPCService = "a.B" })},
		{"health_limit", nothing, with(func(p *pool.Pool) { p.Health.EscalateLimit = time.Hour })},
		{"health_generations", nothing, with(func(p *pool.Pool) { p.Health.GenerateInterval, p.Health.EscalateAfter = time.Hour, time.Hour })},
		{"health_interval", nothing, with(func(p *pool.Pool) { p.Health.Interval = time.Hour })},
		{"health_timeout", nothing, with(func(p *pool.Pool) { p.Health.Timeout = time.Hour })},
		{"health_failures", nothing, with(func(p *pool.Pool) { p.Health.Failures = 99 })},
		{"health_successes", nothing, with(func(p *pool.Pool) { p.Health.Successes = 99 })},
		{"health_mode", nothing, with(func(p *pool.Pool) { p.Health.Mode = pool.FailOpen })},
		{"health_path_that_is_the_engines_own", nothing, with(func(p *pool.Pool) { p.Health.Path = "/health" })},
		{"drain_deadline", nothing, with(func(p *pool.Pool) { p.Drain.Deadline = time.Hour })},
		{"hints_benchmark", nothing, with(func(p *pool.Pool) { p.Hints.Benchmark = !p.Hints.Benchmark })},
		{"restart_reset_after", nothing, with(func(p *pool.Pool) { p.Restart.ResetAfter = time.Hour })},
		{"breaker_timeout", nothing, with(func(p *pool.Pool) { p.Restart.BreakerTimeout = time.Hour })},
		{"breaker_max", nothing, with(func(p *pool.Pool) { p.Restart.BreakerMax = time.Hour })},
		{"breaker_stable", nothing, with(func(p *pool.Pool) { p.Restart.BreakerStable = time.Hour })},
		{"class_factor", nothing, with(func(p *pool.Pool) { p.Restart.ClassFactor = 3 })},
		{"storm_restarts", nothing, with(func(p *pool.Pool) { p.Restart.StormRestarts = 3 })},
		{"storm_window", nothing, with(func(p *pool.Pool) { p.Restart.StormWindow = time.Hour })},
		{"state_max", nothing, with(func(p *pool.Pool) { p.StateMaxBytes = 1 << 30 })},
		{"vram", nothing, with(func(p *pool.Pool) { p.VRAMBytes = 1 << 30 })},
		{"shared", nothing, with(func(p *pool.Pool) { p.Shared = true })},
		{"health_generation", nothing, with(func(p *pool.Pool) {
			p.Health.GenerateTimeout, p.Health.GenerateFailures = time.Hour, 9
			p.Health.GeneratePath, p.Health.GenerateBody = "/x", "{}"
		})},
		{"written_otherwise_and_found_the_same", nothing, with(func(p *pool.Pool) {
			p.Model, p.Provisioning.Binary, p.Port = "file:/srv/models/../models/llama3.gguf", "llama-server", 21000
		})},
		{"of_modes_that_are_not_rendered", nothing, with(func(p *pool.Pool) {
			p.Provisioning = pool.Provisioning{Mode: pool.ModeExternal, URL: "http://127.0.0.1:1", Image: "x",
				Binary: p.Provisioning.Binary}
		})},
		{"runtime_of_another_mode", nothing, with(func(p *pool.Pool) { p.Provisioning.Runtime = pool.RuntimePodman })},
		{"source", nothing, with(func(p *pool.Pool) { p.Source = "/elsewhere.toml" })},
		{"another_replicas_mask", nothing, with(func(p *pool.Pool) { p.Devices = [][]string{{"0", "1"}, {"4", "5"}} })},
		{"replicas", nothing, with(func(p *pool.Pool) { p.Replicas = 2 })},
		{"engine_version", nothing, func(in *render.Input) { in.Prepared.Version = "9.9" }},
		{"model_digest_learnt", nothing, func(in *render.Input) { in.Staged.Digest, in.Staged.Verified = "sha256:00", true }},
		{"model_size", nothing, func(in *render.Input) { in.Staged.SizeBytes++ }},
		{"prefetch", nothing, with(func(p *pool.Pool) { p.Prefetch = []string{"hf:a/b"} })},
		{"model_files", nothing, func(in *render.Input) { in.Staged.Files = append(in.Staged.Files, "/srv/models/x") }},
		{"systemd_upgrade", nothing, func(in *render.Input) { in.Host = render.Host{} }},
		{"host_memory", nothing, func(in *render.Input) { in.Host.MemoryBytes = 1 << 40 }},
		{"vram_only", nothing, func(in *render.Input) { in.Host.VRAMOnly = true }},
		{"memory_check", nothing, with(func(p *pool.Pool) { p.MemoryCheck = pool.MemoryWarn })},
		{"gate_path", nothing, func(in *render.Input) { in.Host.GatePath = "/opt/gate" }},
		{"memory_need_learnt", nothing, func(in *render.Input) { in.Need = render.Need{Devices: map[string]uint64{gpuOf("0"): 1}, Host: 1} }},
		{"devices_spelled_otherwise", nothing, with(func(p *pool.Pool) { p.Devices = [][]string{{gpuOf("0"), "65:00.0"}} })},
		{"device_nodes", nothing, func(in *render.Input) {
			in.Mask = []render.Device{{Visible: in.Mask[0].Visible, Nodes: []string{"/dev/nvidia7"}}, in.Mask[1]}
		}},
		{"mask_written_in_another_way", nothing, with(func(p *pool.Pool) { p.Devices = [][]string{{gpuOf("0"), gpuOf("1")}, {"2", "3"}} })},
	}
	t.Run("every_key_of_a_pool_has_a_case", func(t *testing.T) {
		seen := map[string]bool{"ID": true, "Source": true} // the unit's name, and where it was read
		for _, c := range cases {
			in := input(pair, with(full))
			was := leaves(in.Pool)
			c.change(&in)
			for name, value := range leaves(in.Pool) {
				seen[name] = seen[name] || value != was[name]
			}
		}
		for name := range leaves(pool.Pool{}) {
			if !seen[name] {
				t.Errorf("a change of Pool.%s: does it need a new process, a property, or nothing? Add a case.", name)
			}
		}
	})
	identity, limits := halves(t, base)
	for _, c := range cases {
		t.Run(c.needs+"/"+c.name, func(t *testing.T) {
			i, l := halves(t, input(pair, with(full), c.change))
			if (i != identity) != (c.needs == process) {
				t.Errorf("the identity is %s, was %s", i, identity)
			}
			if (l != limits) != (c.needs == live) {
				t.Errorf("the limits are %s, were %s", l, limits)
			}
		})
	}
}

// TestSpecHashOfKeysThatTheEngineIsNotTold: slots of a Triton pool are only counted.
func TestSpecHashOfKeysThatTheEngineIsNotTold(t *testing.T) {
	triton := kind(engine.Triton, "/opt/tritonserver", "/srv/models/repository")
	command := kind(engine.Program, "/usr/bin/stub", "")
	slots := with(func(p *pool.Pool) { p.Slots = 7 })
	cases := []struct {
		name    string
		a, b    render.Input
		differs bool
	}{
		{"triton_slots", input(triton), input(triton, slots), false},
		{"command_slots", input(command), input(command, slots), false},
		{"command_slots_in_its_args", input(command, args("{slots}")), input(command, args("{slots}"), slots), true},
		{"tensor_split_on_a_cpu", input(), input(with(func(p *pool.Pool) { p.TensorSplit = []float64{1} })), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			a, _ := halves(t, c.a)
			b, _ := halves(t, c.b)
			if (a != b) != c.differs {
				t.Errorf("%s and %s", a, b)
			}
		})
	}
}

// TestSpecHashOfAllow: order and repetitions of [sandbox] allow mean nothing.
func TestSpecHashOfAllow(t *testing.T) {
	allow := func(names ...string) string {
		identity, _ := halves(t, input(with(func(p *pool.Pool) { p.Sandbox.Allow = names })))
		return identity
	}
	if allow(relax.JIT, relax.Proc) != allow(relax.Proc, relax.JIT, relax.Proc) || allow() != allow([]string{}...) {
		t.Error("another order is another spec")
	}
	if allow(relax.JIT) == allow(relax.Proc) {
		t.Error("another relaxation is the same spec")
	}
}

// TestSpecHashIsForEver pins a few identities: a new version of this program that changes one
// restarts every engine of every host at its upgrade.
func TestSpecHashIsForEver(t *testing.T) {
	for want, in := range map[string]render.Input{
		"fc5d6bfa0634": input(),
		"50bc0a5c31dc": input(gpus([]string{"0", "1"}), with(func(p *pool.Pool) { p.TensorSplit, p.Ctx = []float64{0.6, 0.4}, 512 })),
		"200b772b3329": input(kind(engine.Program, "/usr/bin/stub", ""), args("{port}"), with(func(p *pool.Pool) { p.Env = map[string]string{"A": "b"} })),
	} {
		if got, _ := halves(t, in); got != want {
			t.Errorf("%s/%s: %s, was %s", in.Pool.ID, in.Pool.Engine, got, want)
		}
	}
}

// leaves are the fields of a pool, and of the tables in it, as text.
func leaves(p pool.Pool) map[string]string {
	out := make(map[string]string)
	var walk func(name string, v reflect.Value)
	walk = func(name string, v reflect.Value) {
		if v.Kind() != reflect.Struct {
			out[name] = fmt.Sprint(v.Interface())
			return
		}
		for i := range v.NumField() {
			walk(strings.TrimPrefix(name+"."+v.Type().Field(i).Name, "."), v.Field(i))
		}
	}
	walk("", reflect.ValueOf(p))
	return out
}
