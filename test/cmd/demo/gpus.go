package main

import (
	"context"
	"fmt"
	"os"

	"github.com/pool-managerd/pool-managerd/test/e2e/host"
)

// chatFile asks for a pool on the first GPU. Its engine is a stand-in: the machine's llama-server
// was built without CUDA.
const chatFile = `engine = "command"
model = "file:` + host.TinyModel + `"
devices = [0]
vram = "6G"
slots = 4
args = ["--port", "{port}", "-np", "{slots}", "--vram", "6442450944"]

[provisioning]
binary = "` + host.StubEngine + `"
`

// gpus is the second half of the story: GPUs that do not exist, one that breaks and comes back.
func (s stage) gpus(ctx context.Context) error {
	run := func(script string) func() error { return func() error { return s.run(ctx, script) } }
	explain := func(line string) func() error { return func() error { say("%s", line); return nil } }
	return steps(
		explain(noGPU()+` The two that follow do not exist: a library of the tests answers in
# the place of NVIDIA's. Who asks it is the real thing: pool-gpu in its sandbox, the manager, the units of the engines.`),
		func() error { return s.h.LoadGPUs(ctx, "--gpus 2") },
		func() error { return s.untilHealth(ctx, "healthy") },
		run("poolctl devices"),
		run("poolctl fit file:"+host.TinyModel),
		explain("A pool on GPU 0. Its engine is a stand-in too, which takes 6 GiB: the llama-server here was built "+
			"without CUDA."),
		func() error { return s.write(ctx, host.PoolFile("chat"), chatFile) },
		run("systemctl reload pool-managerd"),
		func() error { return s.until(ctx, "chat", func(p host.Pool) bool { return p.Ready }) },
		func() error { return s.untilUsed(ctx) },
		run("poolctl list"),
		run("poolctl devices"),
		explain("The driver reports an error after which only a reset helps. The pool is stopped, and waits; the "+
			"other one keeps running."),
		run("fakegpu ctl xid 0 119; fakegpu ctl recovery 0 1"),
		func() error { return s.until(ctx, "chat", func(p host.Pool) bool { return p.State == "waiting" }) },
		run("poolctl list"),
		run("poolctl devices"),
		explain("The GPU is reset. When it has been healthy for three samples and five seconds, the pool starts "+
			"again by itself."),
		run("fakegpu ctl restore 0"),
		func() error { return s.until(ctx, "chat", func(p host.Pool) bool { return p.Ready }) },
		run("poolctl list"),
	)
}

// noGPU explains why there is no real GPU in the machine.
func noGPU() string {
	if _, err := os.Stat("/proc/driver/nvidia/version"); err == nil {
		return "This host has NVIDIA's driver, but the machine of the demo cannot see it (make test-gpu asks the " +
			"real GPUs)."
	}
	return "There is no GPU here."
}

// untilHealth waits until both GPUs are known, and of that health.
func (s stage) untilHealth(ctx context.Context, health string) error {
	return s.untilDevices(ctx, func(d host.Devices) bool {
		return len(d.Devices) == 2 && d.Devices[0].Health == health && d.Devices[1].Health == health
	})
}

// untilUsed waits until a sample has seen the engine's memory.
func (s stage) untilUsed(ctx context.Context) error {
	return s.untilDevices(ctx, func(d host.Devices) bool {
		return len(d.Devices) > 0 && len(d.Devices[0].Processes) > 0
	})
}

func (s stage) untilDevices(ctx context.Context, holds func(host.Devices) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return host.Eventually(ctx, func(ctx context.Context) error {
		d, err := s.h.Devices(ctx)
		if err == nil && !holds(d) {
			err = fmt.Errorf("not yet: %+v", d)
		}
		return err
	})
}
