package cgroups

import specs "github.com/opencontainers/runtime-spec/specs-go"

// unsupportedField is a field of LinuxResources without a unit property.
type unsupportedField struct {
	Field  string
	Set    func(r *specs.LinuxResources) bool
	Reason string
}

func memorySet(has func(m *specs.LinuxMemory) bool) func(*specs.LinuxResources) bool {
	return func(r *specs.LinuxResources) bool { return r.Memory != nil && has(r.Memory) }
}

func cpuSet(has func(c *specs.LinuxCPU) bool) func(*specs.LinuxResources) bool {
	return func(r *specs.LinuxResources) bool { return r.CPU != nil && has(r.CPU) }
}

func blockSet(has func(b *specs.LinuxBlockIO) bool) func(*specs.LinuxResources) bool {
	return func(r *specs.LinuxResources) bool { return r.BlockIO != nil && has(r.BlockIO) }
}

const (
	noProperty = "systemd has no property for it"
	v1Only     = "it exists in cgroup v1 only"
)

// unsupported lists every field that Properties refuses. Devices are refused because rules that do
// not come through DeviceAllow= are lost when PID 1 reloads (NVIDIA/nvidia-docker#1730).
var unsupported = []unsupportedField{
	{"devices", func(r *specs.LinuxResources) bool { return len(r.Devices) > 0 }, "name device nodes in DeviceAllow="},
	{"hugepageLimits", func(r *specs.LinuxResources) bool { return len(r.HugepageLimits) > 0 }, noProperty},
	{"rdma", func(r *specs.LinuxResources) bool { return len(r.Rdma) > 0 }, noProperty},
	{"network", func(r *specs.LinuxResources) bool { return r.Network != nil }, v1Only},
	{"memory.swappiness", memorySet(func(m *specs.LinuxMemory) bool { return m.Swappiness != nil }), v1Only},
	//lint:ignore SA1019 the specification still has the field, so a caller may set it, and must get an error
	{"memory.kernel", memorySet(func(m *specs.LinuxMemory) bool { return m.Kernel != nil }), v1Only},
	{"memory.kernelTCP", memorySet(func(m *specs.LinuxMemory) bool { return m.KernelTCP != nil }), v1Only},
	{"memory.disableOOMKiller", memorySet(func(m *specs.LinuxMemory) bool { return m.DisableOOMKiller != nil && *m.DisableOOMKiller }), v1Only},
	{"cpu.realtimeRuntime", cpuSet(func(c *specs.LinuxCPU) bool { return c.RealtimeRuntime != nil && *c.RealtimeRuntime != 0 }), v1Only},
	{"cpu.realtimePeriod", cpuSet(func(c *specs.LinuxCPU) bool { return c.RealtimePeriod != nil && *c.RealtimePeriod != 0 }), v1Only},
	{"cpu.burst", cpuSet(func(c *specs.LinuxCPU) bool { return c.Burst != nil && *c.Burst != 0 }), noProperty},
	{"cpu.idle", cpuSet(func(c *specs.LinuxCPU) bool { return c.Idle != nil && *c.Idle != 0 }), "use a CPU weight"},
	{"blockIO.leafWeight", blockSet(func(b *specs.LinuxBlockIO) bool { return b.LeafWeight != nil }), v1Only},
	{"blockIO.weightDevice", blockSet(func(b *specs.LinuxBlockIO) bool { return len(b.WeightDevice) > 0 }), "device rules are not supported here"},
	{"blockIO.throttle", blockSet(func(b *specs.LinuxBlockIO) bool {
		return len(b.ThrottleReadBpsDevice)+len(b.ThrottleWriteBpsDevice)+len(b.ThrottleReadIOPSDevice)+
			len(b.ThrottleWriteIOPSDevice) > 0
	}), "device rules are not supported here"},
}

func refuseUnsupported(r *specs.LinuxResources) error {
	for _, f := range unsupported {
		if f.Set(r) {
			return &UnsupportedError{Field: f.Field, Reason: f.Reason}
		}
	}
	return nil
}
