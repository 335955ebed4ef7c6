package render_test

import (
	"time"

	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/render"
)

// change is one thing that a case says about its input.
type change func(*render.Input)

// input returns a CPU llama-server with every default filled in, and the changes on top.
func input(changes ...change) render.Input {
	in := render.Input{
		Pool: pool.Pool{
			ID: "llama3", Source: "/etc/pool-managerd/pools.d/llama3.toml", Engine: engine.LlamaCpp,
			Model: "file:/srv/models/llama3.gguf", Replicas: 1,
			Provisioning: pool.Provisioning{Mode: pool.ModeBinary},
			Health: pool.Health{Interval: 5 * time.Second, Timeout: 2 * time.Second, Failures: 3, Successes: 1,
				StartTimeout: 5 * time.Minute, Mode: pool.FailFast},
			Restart: pool.Restart{Initial: time.Second, Factor: 2, Max: time.Minute, Jitter: 0.2,
				ResetAfter: 10 * time.Minute, BreakerFailures: 5, BreakerWindow: 10 * time.Minute,
				BreakerTimeout: 5 * time.Minute},
			Drain: pool.Drain{Deadline: 30 * time.Second},
		},
		Staged: pool.Staged{Path: "/srv/models/llama3.gguf", Files: []string{"/srv/models/llama3.gguf"},
			SizeBytes: 4_900_000_000},
		Prepared: pool.Prepared{
			Binary: "/usr/bin/llama-server", Version: "0.7.0",
		},
		Port: 21000,
	}
	systemd257(&in)
	for _, c := range changes {
		c(&in)
	}
	in.Adapter, _ = engine.For(in.Pool.Engine)
	return in
}

// The three hosts.
func systemd252(in *render.Input) {
	in.Host = render.Host{StagingRoot: render.StagingRoots()[0], MemoryBytes: 64 << 30}
}
func systemd257(in *render.Input) {
	in.Host = render.Host{ExecFlags: true, RestartSteps: true, RestartMaxDelay: true, SurviveFinalKill: true,
		TemporaryInMemory: true}
}
func systemd262(in *render.Input) {
	in.Host = render.Host{ExecFlags: true, RestartSteps: true, RestartMaxDelay: true, RandomizedDelay: true,
		SurviveFinalKill: true, TemporaryInMemory: true, DirectoryQuota: true, StateBytes: 40 << 30}
}

func gpus(masks ...[]string) change {
	return func(in *render.Input) {
		in.Pool.Devices, in.Pool.Replicas = masks, len(masks)
		in.Mask = nil
		for _, name := range masks[in.Replica] {
			in.Mask = append(in.Mask, render.Device{Visible: gpuOf(name), Nodes: []string{"/dev/nvidia" + name}})
		}
	}
}

// gpuOf is the UUID of the GPU of that index.
func gpuOf(index string) string { return "GPU-5a7d1c9e-0000-0000-0000-00000000000" + index }

// mask is what a resolved mask holds, whatever the pool file says.
func mask(devices ...render.Device) change {
	return func(in *render.Input) { in.Mask = devices }
}

// need is the memory that a start is checked against.
func need(host uint64, devices ...uint64) change {
	return func(in *render.Input) {
		in.Need.Host = host
		in.Need.Devices = make(map[string]uint64)
		for i, bytes := range devices {
			in.Need.Devices[in.Mask[i].Visible] = bytes
		}
	}
}

func args(args ...string) change { return func(in *render.Input) { in.Pool.Args = args } }

func replicaNumber(n int) change {
	return func(in *render.Input) {
		in.Replica, in.Port = n, 21000+n
		if n >= 0 && len(in.Pool.Devices) > n {
			gpus(in.Pool.Devices...)(in)
		}
	}
}

// kind changes engine, binary and model.
func kind(kind, binary, model string) change {
	return func(in *render.Input) {
		in.Pool.Engine, in.Prepared.Binary = kind, binary
		in.Prepared.Version = "1.2.3"
		modelAt(model)(in)
	}
}

// keyFile gives the engine a key.
func keyFile(in *render.Input) { in.Pool.APIKeyFile = "/etc/llm/key" }

// envFiles gives the engine variables from two files, and one of its pool file.
func envFiles(in *render.Input) {
	in.Pool.EnvFiles, in.Pool.Env = []string{"/etc/llm/a.env", "/etc/llm/b.env"}, map[string]string{"A": "1 2"}
	in.Pool.FileEnv = map[string]pool.FileVariable{"A": {Value: "2"}, "HF_TOKEN": {Value: "hf_secret", Item: 1}}
}

// shows adds files that were found beside the model.
func shows(files ...string) change {
	return func(in *render.Input) { in.Staged.Files = append(in.Staged.Files, files...) }
}

func modelAt(path string, files ...string) change {
	return func(in *render.Input) {
		in.Pool.Model, in.Staged.Path, in.Staged.Files = pool.Model("file:"+path), path, files
		if len(files) == 0 && path != "" {
			in.Staged.Files = []string{path}
		}
		if path == "" {
			in.Pool.Model = ""
		}
	}
}

// with changes the pool.
func with(f func(*pool.Pool)) change { return func(in *render.Input) { f(&in.Pool) } }
