package wire

import (
	"strconv"
	"strings"
	"time"

	"github.com/pool-managerd/pool-managerd/registry"
)

// DevicesOf returns the answer of GET /v1/devices at a moment, which determines the age of the
// facts.
func DevicesOf(facts *registry.Devices, now time.Time) DeviceList {
	d := facts.At(now)
	l := DeviceList{
		Driver: Driver{Version: d.Driver.Version, CUDA: d.Driver.CUDA, Library: d.Driver.Library,
			Problem: d.Driver.Problem},
		TakenMS: moment(d.Taken), Devices: make([]GPUDevice, 0, len(d.Devices)),
	}
	l.Driver.LastError, l.Driver.Hint = textOf(d.Driver.Failure)
	if d.Stale != nil {
		l.Stale = &Stale{}
		l.Stale.LastError, l.Stale.Hint = textOf(d.Stale)
		if !d.Taken.IsZero() {
			age := max(0, now.Sub(d.Taken).Milliseconds())
			l.Stale.AgeMS = &age
		}
	}
	for i := range d.Devices {
		l.Devices = append(l.Devices, gpuOf(&d.Devices[i]))
	}
	return l
}

func gpuOf(d *registry.Device) GPUDevice {
	w := GPUDevice{
		UUID: d.UUID, Index: d.Index, PCI: d.PCI, Minor: d.Minor, Name: d.Name, ComputeCapability: d.ComputeCapability,
		VRAM: vramOf(d.Memory), UtilizationPercent: d.UtilizationPct, TemperatureCelsius: d.TemperatureC,
		PowerState: d.PowerState, PowerMilliwatts: d.PowerMilliwatts, RecoveryAction: d.RecoveryAction, MIG: d.MIG,
		Processes: processesOf(d.Processes), Health: string(d.Health), SinceMS: moment(d.Since), Pools: list(d.Pools),
	}
	w.LastError, w.Hint = textOf(d.Failure)
	if w.Health == "" {
		w.Health = string(registry.HealthUnknown)
	}
	if d.ECC != nil {
		w.ECC = &ECC{Enabled: d.ECC.Enabled, Corrected: d.ECC.Corrected, Uncorrectable: d.ECC.Uncorrectable}
	}
	if d.Remap != nil {
		w.RowRemap = &RowRemap{Corrected: d.Remap.Corrected, Uncorrectable: d.Remap.Uncorrectable,
			Pending: d.Remap.Pending, Failed: d.Remap.Failed}
	}
	if d.MIG != nil {
		w.Partitions = make([]MIGPartition, 0, len(d.Partitions))
		for _, p := range d.Partitions {
			w.Partitions = append(w.Partitions, MIGPartition{UUID: p.UUID, GI: p.GI, CI: p.CI, Profile: p.Profile,
				VRAM: vramOf(p.Memory), Processes: processesOf(p.Processes), Pools: list(p.Pools)})
		}
	}
	return w
}

func vramOf(m *registry.VRAM) VRAM {
	if m == nil {
		return VRAM{}
	}
	return VRAM{TotalBytes: &m.Total, FreeBytes: &m.Free, UsedBytes: &m.Used, ReservedBytes: m.Reserved}
}

func processesOf(list []registry.GPUProcess) []GPUProcess {
	out := make([]GPUProcess, 0, len(list))
	for _, p := range list {
		out = append(out, GPUProcess{PID: p.PID, Unit: p.Unit, PoolID: p.Pool, ReplicaID: p.Replica, UsedBytes: p.Used})
	}
	return out
}

// deviceOf returns a device as its pool shows it. Free memory is reported only of a device that
// answers.
func deviceOf(d registry.PoolDevice) Device {
	w := Device{ID: d.ID, UUID: d.UUID, Name: d.Name, ComputeCapability: d.ComputeCapability, Health: string(d.Health)}
	if d.Memory != nil {
		w.VRAMTotalBytes = &d.Memory.Total
		if d.Health.Answers() && !d.Old {
			w.VRAMFreeBytes = &d.Memory.Free
		}
	}
	return w
}

// capacity is the total of a pool's devices.
type capacity struct {
	total, free *uint64 // bytes; nil: not known of every device, or there is none
	compute     string  // the lowest, since an engine over several GPUs runs what the weakest can; empty as above
}

// capacityOf adds up a pool's devices. A sum with an unknown part is unknown.
func capacityOf(devices []registry.PoolDevice) capacity {
	if len(devices) == 0 {
		return capacity{}
	}
	first := deviceOf(devices[0])
	c := capacity{first.VRAMTotalBytes, first.VRAMFreeBytes, first.ComputeCapability}
	for _, d := range devices[1:] {
		w := deviceOf(d)
		c.total, c.free = plus(c.total, w.VRAMTotalBytes), plus(c.free, w.VRAMFreeBytes)
		if w.ComputeCapability == "" || lower(w.ComputeCapability, c.compute) {
			c.compute = w.ComputeCapability
		}
	}
	return c
}

func plus(sum, more *uint64) *uint64 {
	if sum == nil || more == nil {
		return nil
	}
	s := *sum + *more
	return &s
}

// lower compares compute capabilities, "8.6" and "10.0", as numbers; an empty or invalid one is the
// lowest.
func lower(a, b string) bool {
	majorA, minorA := parts(a)
	majorB, minorB := parts(b)
	return majorA < majorB || majorA == majorB && minorA < minorB
}

func parts(s string) (major, minor int) {
	before, after, _ := strings.Cut(s, ".")
	major, _ = strconv.Atoi(before)
	minor, _ = strconv.Atoi(after)
	return major, minor
}

func textOf(f *registry.Failure) (text, hint string) {
	if f == nil {
		return "", ""
	}
	return f.Error(), f.Hint
}
