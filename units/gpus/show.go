package gpus

import (
	"slices"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Users names the pools that a device is given to, by the UUID of a GPU or partition.
type Users map[string][]string

// Add notes that a pool has these devices. A partition counts for its GPU too.
func (u Users) Add(id string, mask []devices.Target) {
	for _, t := range mask {
		for _, uuid := range []string{t.UUID, t.GPU} {
			if !slices.Contains(u[uuid], id) {
				u[uuid] = append(u[uuid], id)
				slices.Sort(u[uuid])
			}
		}
	}
}

// Show is everything that is known, as the registry has it.
func (b *Board) Show(users Users, now time.Time) registry.Devices {
	out := registry.Devices{Stale: b.staleness()}
	if b.snapshot == nil {
		return out
	}
	drv := b.snapshot.Driver
	out.Taken = b.snapshot.Taken
	out.Driver = registry.Driver{Version: drv.Version, CUDA: drv.CUDA, Library: drv.Library,
		Failure: driverFailure(drv.Problem), Problem: string(kindOf(drv.Problem))}
	for _, d := range b.snapshot.Devices {
		out.Devices = append(out.Devices, b.device(d, users, now))
	}
	return out
}

func (b *Board) staleness() *registry.Failure {
	if b.stale == nil {
		return nil
	}
	return registry.Fail(registry.CodeGPUUnavailable, b.stale.Problem.Text, staleHint)
}

const staleHint = "Engines go on. Read journalctl -u pool-gpu, and run nvidia-smi: a sick driver hangs there too."

// driverFailure is why the driver gives no facts. A host without one is no failure of anything:
// pools that ask for a GPU say so.
func driverFailure(p *nvml.Problem) *registry.Failure {
	if p == nil {
		return nil
	}
	return registry.Fail(registry.CodeGPUUnavailable, p.Text, devices.DriverHint(p.Kind))
}

func (b *Board) device(d nvml.Device, users Users, now time.Time) registry.Device {
	st := b.health.State(d.UUID, now)
	out := registry.Device{
		UUID: d.UUID, Index: d.Index, PCI: d.PCI, Name: d.Name, Minor: d.Minor, ComputeCapability: d.ComputeCapability,
		Memory: memoryOf(d.Memory), UtilizationPct: d.UtilizationPct, TemperatureC: d.TemperatureC,
		PowerState:      d.PowerState,
		PowerMilliwatts: d.PowerMilliwatts, ECC: (*registry.ECC)(d.ECC), Remap: (*registry.Remap)(d.Remap),
		RecoveryAction: string(d.Recovery),
		MIG:            d.MIG, Processes: processesOf(d.Processes), Health: registry.Health(st.Health), Since: st.Since,
		Pools: users[d.UUID],
	}
	if c := st.Cause; c != nil {
		out.Failure = registry.Fail(codeOf(c, registry.CodeGPUUnavailable), c.Text, sentence(c.Hint))
	}
	for _, p := range d.Partitions {
		out.Partitions = append(out.Partitions, registry.Partition{UUID: p.UUID, GI: p.GI, CI: p.CI, Profile: p.Profile,
			Memory: memoryOf(p.Memory), Processes: processesOf(p.Processes), Pools: users[p.UUID]})
	}
	return out
}

func memoryOf(m *nvml.Memory) *registry.VRAM {
	if m == nil {
		return nil
	}
	return &registry.VRAM{Total: m.Total, Free: m.Free, Used: m.Used, Reserved: m.Reserved}
}

func processesOf(list []nvml.Process) []registry.GPUProcess {
	var out []registry.GPUProcess
	for _, p := range list {
		q := registry.GPUProcess{PID: p.PID, Unit: p.Unit, Used: p.Used}
		if id, ok := pool.ParseUnit(p.Unit); ok {
			q.Pool, q.Replica = id.Pool, id.Name()
		}
		out = append(out, q)
	}
	return out
}

// PoolDevices are the devices of a mask as its pool shows them.
func (b *Board) PoolDevices(mask []devices.Target, now time.Time) []registry.PoolDevice {
	var out []registry.PoolDevice
	for _, t := range mask {
		out = append(out, registry.PoolDevice{ID: t.Entry, UUID: t.UUID, Name: t.Name,
			ComputeCapability: t.ComputeCapability,
			Memory:            memoryOf(b.memory(t.UUID)), Health: registry.Health(b.health.State(t.UUID, now).Health)})
	}
	return out
}
