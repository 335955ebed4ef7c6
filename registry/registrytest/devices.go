package registrytest

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
)

// The devices of the host.
const (
	Ampere    = "GPU-5a7d1c02-9e4b-4f60-8c13-0d2a7b61e9f4" // index 0: every fact; gemma/r0 and llama3-8b/r0 share it
	Degraded  = "GPU-5a7d1c02-11aa-4c0e-b7d9-6f5e3a2c8b10" // index 1: the mask of llama3-8b/r1
	Hopper    = "GPU-c0ffee12-3456-4789-abcd-ef0123456789" // index 2: in MIG mode
	Lost      = "GPU-dead0001-0000-4000-8000-000000000003" // index 3: does not answer
	Partition = "MIG-1f2e3d4c-5b6a-4978-8695-a4b3c2d1e0f0" // of Hopper: the mask of qwen/r0
	Empty     = "MIG-0a1b2c3d-4e5f-4061-8273-94a5b6c7d8e9" // of Hopper: of no pool
)

const gib = 1 << 30

func ptr[T any](v T) *T { return &v }

func memory(total, used, reserved uint64) *registry.VRAM {
	return &registry.VRAM{Total: total, Free: total - used - reserved, Used: used, Reserved: &reserved}
}

// Devices returns the host's GPUs, read at Start plus 58 seconds and fresh.
func Devices() registry.Devices {
	return registry.Devices{
		Driver:  registry.Driver{Version: "570.124.06", CUDA: "12.8", Library: "12.570.124.06"},
		Taken:   after(58),
		Devices: []registry.Device{ampere(), degraded(), hopper(), lost()},
	}
}

func ampere() registry.Device {
	return registry.Device{
		UUID: Ampere, Index: 0, PCI: "00000000:01:00.0", Minor: ptr(0), Name: "NVIDIA RTX A6000",
		ComputeCapability: "8.6",
		Memory:            memory(48*gib, 18*gib, gib/2), UtilizationPct: ptr(37), TemperatureC: ptr(61),
		PowerState:      ptr(2),
		PowerMilliwatts: ptr(187_500),
		ECC:             &registry.ECC{Enabled: true, Corrected: ptr[uint64](3), Uncorrectable: ptr[uint64](0)},
		Remap:           &registry.Remap{},
		RecoveryAction:  "none", Health: registry.HealthOK, Since: after(-86400), Pools: []string{"gemma", "llama3-8b"},
		Processes: []registry.GPUProcess{
			{PID: 4711, Unit: "pool-engine@gemma.r0.service", Pool: "gemma", Replica: "r0", Used: ptr[uint64](3 * gib)},
			{PID: 815, Unit: `pool-engine@llama3\x2d8b.r0.service`, Pool: "llama3-8b", Replica: "r0", Used: ptr[uint64](14 * gib)},
			{PID: 2222, Unit: "user@1000.service", Used: ptr[uint64](gib)},
		},
	}
}

// degraded has neither ECC nor a power reading, like a consumer board.
func degraded() registry.Device {
	return registry.Device{
		UUID: Degraded, Index: 1, PCI: "00000000:25:00.0", Minor: ptr(1), Name: "NVIDIA GeForce RTX 4090",
		ComputeCapability: "8.9",
		Memory:            memory(24*gib, 0, gib/4), UtilizationPct: ptr(0), TemperatureC: ptr(34), PowerState: ptr(8),
		Health: registry.HealthDegraded, Since: after(40), Pools: []string{"llama3-8b"},
		Failure: registry.Fail(registry.CodeDriverError, "Xid 63: a row of its memory is to be remapped",
			"Reset the GPU when no engine uses it: nvidia-smi --gpu-reset -i 1"),
	}
}

func hopper() registry.Device {
	return registry.Device{
		UUID: Hopper, Index: 2, PCI: "00000000:81:00.0", Minor: ptr(2), Name: "NVIDIA H100 80GB HBM3",
		ComputeCapability: "9.0",
		Memory:            memory(80*gib, 9*gib, gib), TemperatureC: ptr(44), PowerState: ptr(0), MIG: ptr(true),
		Health: registry.HealthOK, Since: after(-86400), Pools: []string{"qwen"},
		Partitions: []registry.Partition{
			{UUID: Partition, GI: 1, CI: 0, Profile: "3g.40gb", Memory: memory(40*gib, 9*gib, 0), Pools: []string{"qwen"}, Processes: []registry.GPUProcess{
				{PID: 999, Unit: "pool-engine@qwen.r0.service", Pool: "qwen", Replica: "r0", Used: ptr[uint64](9 * gib)}}},
			{UUID: Empty, GI: 2, CI: 0, Profile: "3g.40gb", Memory: memory(40*gib, 0, 0)},
		},
	}
}

func lost() registry.Device {
	return registry.Device{
		UUID: Lost, Index: 3, PCI: "00000000:a1:00.0", Health: registry.HealthLost, Since: after(5),
		Failure: registry.Fail(registry.CodeGPUUnavailable, "the GPU has fallen off the bus (Xid 79)",
			"Restart the host; if it comes again, have the GPU replaced."),
	}
}

// OnGPUs returns the pools with the devices of the host, and one more pool, qwen, on a partition.
func OnGPUs(pools []registry.Pool) []registry.Pool {
	pools = append(slices.Clone(pools), registry.Aggregate(registry.Pool{ID: "qwen", Engine: "vllm",
		ModelID: "hf:Qwen/Qwen3-8B", Wanted: true,
		Replicas: []registry.Replica{{ID: "r0", State: registry.StateReady, Live: true, Ready: true,
			Reason: "the engine answers", Unit: "pool-engine@qwen.r0.service",
			Endpoint: "http://127.0.0.1:21003", PID: 999, DeviceMask: []string{Partition}, EngineVersion: "0.11.0",
			SlotsTotal: 16,
			Since:      after(-600), LastHeartbeat: after(59)}}}))
	on := map[string][]registry.PoolDevice{
		"gemma":     {poolDevice("0", ampere())},
		"llama3-8b": {poolDevice("0", ampere()), poolDevice("1", degraded())},
		"qwen": {{ID: Partition, UUID: Partition, Name: "NVIDIA H100 80GB HBM3 MIG 3g.40gb", ComputeCapability: "9.0",
			Memory: memory(40*gib, 9*gib, 0), Health: registry.HealthOK}},
	}
	for i := range pools {
		p := &pools[i]
		p.Devices, p.Replicas = on[p.ID], slices.Clone(p.Replicas)
		for n := range p.Replicas {
			p.Replicas[n].DeviceMask = resolved(p.Replicas[n].DeviceMask, p.Devices)
		}
		*p = registry.Aggregate(*p)
	}
	return pools
}

// resolved is a mask after the devices are known: full UUIDs.
func resolved(mask []string, devices []registry.PoolDevice) []string {
	var out []string
	for _, entry := range mask {
		for _, d := range devices {
			if d.ID == entry {
				out = append(out, d.UUID)
			}
		}
	}
	return out
}

func poolDevice(id string, d registry.Device) registry.PoolDevice {
	return registry.PoolDevice{ID: id, UUID: d.UUID, Name: d.Name, ComputeCapability: d.ComputeCapability,
		Memory: d.Memory, Health: d.Health}
}
