package memory

import (
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

func TestRefusal(t *testing.T) {
	llama := pool.Replica{Pool: "llama3", Index: 0}.Unit()
	targets := append(gpus(24*gib, 24*gib), devices.Target{UUID: "MIG-x", MIG: true, Name: "A100"})
	cases := []struct {
		name    string
		source  Source
		short   []wire.Short
		message string
		hint    string
	}{
		{"held_by_another_pool", Estimated,
			[]wire.Short{{Device: "GPU-a", Need: 20 * gib, Free: 4 * gib, Total: 24 * gib, Holders: []wire.Holder{{Unit: llama, PID: 7, Used: 18 * gib}}}},
			"GPU 0 (Test GPU): needs 20.0 GiB, and 4.0 GiB of 24.0 GiB is free (held by pool llama3/r0 with 18.0 GiB)",
			"Stop a pool that holds the memory, use another device, or lower ctx or slots; the pool starts by itself when there is enough." +
				" The need is an estimate from the model's files; the key vram of the pool file overrides it."},
		{"held_by_a_foreign_process", Configured,
			[]wire.Short{{Device: "GPU-b", Need: 20 * gib, Free: 4 * gib, Total: 24 * gib, Holders: []wire.Holder{{PID: 4711, Used: 8 * gib}, {Unit: "x.service", PID: 5, Used: gib}, {}}}},
			"GPU 1 (Test GPU): needs 20.0 GiB, and 4.0 GiB of 24.0 GiB is free (held by process 4711 with 8.0 GiB, process 5 of x.service with 1.0 GiB, an unknown process)",
			"Stop the process that uses the memory, or use another device; the pool starts by itself when there is enough. The need is the key vram of the pool file."},
		{"promised_to_one_that_loads", Measured,
			[]wire.Short{{Device: "GPU-a", Need: 20 * gib, Free: 23 * gib, Reserved: 18 * gib, Total: 24 * gib, Holders: []wire.Holder{{Unit: llama, Reserved: 18 * gib}}}},
			"GPU 0 (Test GPU): needs 20.0 GiB, and 23.0 GiB of 24.0 GiB is free, of which 18.0 GiB is reserved for replicas that are loading (held by pool llama3/r0, 18.0 GiB reserved)",
			"Stop a pool that holds the memory, use another device, or lower ctx or slots; the pool starts by itself when there is enough." +
				" The need was measured in an earlier run; the key vram of the pool file overrides it."},
		{"larger_than_the_device", Estimated,
			[]wire.Short{{Device: "MIG-x", Need: 30 * gib, Free: 20 * gib, Total: 20 * gib}},
			"MIG-x: needs 30.0 GiB, and 20.0 GiB of 20.0 GiB is free",
			"The need exceeds the device's total memory: lower ctx or slots, use more devices or a smaller model." +
				" The need is an estimate from the model's files; the key vram of the pool file overrides it."},
		{"vllm", Claimed,
			[]wire.Short{{Device: "GPU-a", Need: 22 * gib, Free: 20 * gib, Total: 24 * gib}},
			"GPU 0 (Test GPU): needs 22.0 GiB, and 20.0 GiB of 24.0 GiB is free",
			"Stop a pool that holds the memory, use another device, or lower ctx or slots; the pool starts by itself when there is enough." +
				" The engine claims this share of the device whatever the model: lower it in args (--gpu-memory-utilization)."},
		{"two_devices", Unknown,
			[]wire.Short{{Device: "GPU-a", Need: 2, Free: 1}, {Device: "GPU-q", Need: 2, Free: 1}},
			"GPU 0 (Test GPU): needs 2 B, and 1 B is free; GPU-q: needs 2 B, and 1 B is free",
			"Stop a pool that holds the memory, use another device, or lower ctx or slots; the pool starts by itself when there is enough."},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := Refusal(Need{Source: c.source, ClaimFlag: "--gpu-memory-utilization"}, c.short, targets)
			if f == nil || f.Code != registry.CodeInsufficientVRAM || f.Message != c.message || f.Hint != c.hint {
				t.Errorf("got\n%v\n%s\nwant\n%s\n%s", f, f.Hint, c.message, c.hint)
			}
		})
	}
	if f := Refusal(Need{}, nil, targets); f != nil {
		t.Errorf("a refusal of nothing: %v", f)
	}
}

// TestKey says what makes another key, and what does not.
func TestKey(t *testing.T) {
	model, other := tiny(t, 0), tiny(t, 2*mib)
	base := pool.Pool{ID: "a", Engine: engine.LlamaCpp, Ctx: 4096, Slots: 4, Args: []string{"-fa", "on"}}
	key := Key(base, model, "1", gpus(gib))
	changed := func(f func(p *pool.Pool)) pool.Pool { p := base; f(&p); return p }
	cases := []struct {
		name string
		got  string
		same bool
	}{
		{"the_same", Key(base, model, "1", gpus(gib)), true},
		{"another_pool_and_port", Key(changed(func(p *pool.Pool) { p.ID, p.Port, p.Source = "b", 9, "/x" }), model, "1", gpus(gib)), true},
		{"another_gpu_alike", Key(base, model, "1", []devices.Target{{UUID: "GPU-z", Index: 3, Total: gib}}), true},
		{"limits", Key(changed(func(p *pool.Pool) { p.Limits.TasksMax = 9 }), model, "1", gpus(gib)), true},
		{"engine_version", Key(base, model, "2", gpus(gib)), false},
		{"model", Key(base, other, "1", gpus(gib)), false},
		{"digest", Key(base, pool.Staged{Path: model.Path, Digest: "sha256:x"}, "1", gpus(gib)), false},
		{"mask_length", Key(base, model, "1", gpus(gib, gib)), false},
		{"size_of_the_gpu", Key(base, model, "1", gpus(2*gib)), false},
		{"ctx", Key(changed(func(p *pool.Pool) { p.Ctx = 1 }), model, "1", gpus(gib)), false},
		{"slots", Key(changed(func(p *pool.Pool) { p.Slots = 1 }), model, "1", gpus(gib)), false},
		{"args", Key(changed(func(p *pool.Pool) { p.Args = []string{"-fa on"} }), model, "1", gpus(gib)), false},
		{"env", Key(changed(func(p *pool.Pool) { p.Env = map[string]string{"A": "b"} }), model, "1", gpus(gib)), false},
		{"tensor_split", Key(changed(func(p *pool.Pool) { p.TensorSplit = []float64{1} }), model, "1", gpus(gib)), false},
		{"engine", Key(changed(func(p *pool.Pool) { p.Engine = engine.Program }), model, "1", gpus(gib)), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if (c.got == key) != c.same || c.got == "" {
				t.Errorf("key %s, the first %s; want the same: %t", c.got, key, c.same)
			}
		})
	}
}
