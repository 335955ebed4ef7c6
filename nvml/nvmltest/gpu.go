package nvmltest

import (
	"fmt"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// GiB is 2^30 bytes.
const GiB = uint64(1) << 30

// GPU returns a healthy idle GPU with 24 GiB and that index, from which UUID, PCI address and minor
// number are derived.
func GPU(index int) nvml.Device {
	return nvml.Device{
		UUID: UUID(index), Index: index, PCI: fmt.Sprintf("00000000:%02x:00.0", 0x65+index), Minor: &index,
		Name: "NVIDIA GeForce RTX 3090", ComputeCapability: "8.6",
		Memory:         Memory(24*GiB, 0),
		UtilizationPct: new(0), TemperatureC: new(41), PowerState: new(8), PowerMilliwatts: new(23_500),
		Recovery: nvml.RecoveryNone,
		Nodes:    []string{fmt.Sprintf("/dev/nvidia%d", index)},
	}
}

// UUID returns the UUID of GPU(index). No two share the first four hex digits.
func UUID(index int) string {
	return fmt.Sprintf("GPU-%04x0000-1111-2222-3333-%012d", 0x3f10+index, index)
}

// PartitionUUID returns the UUID of the nth partition of GPU(index).
func PartitionUUID(index, n int) string {
	return fmt.Sprintf("MIG-%04x%04x-4444-5555-6666-%012d", 0xa100+index, n, index)
}

// Memory returns the memory of a GPU or partition, in bytes.
func Memory(total, used uint64) *nvml.Memory {
	return &nvml.Memory{Total: total, Used: used, Free: total - used}
}

// MIG returns GPU(index) as a data-centre GPU of 40 GiB cut into n partitions of profile 1g.5gb:
// GPU instances 7, 8, …, each with compute instance 0, as the driver numbers them.
func MIG(index, n int) nvml.Device {
	d := GPU(index)
	d.Name, d.ComputeCapability, d.Memory, d.MIG = "NVIDIA A100-SXM4-40GB", "8.0", Memory(40*GiB, 0), new(true)
	d.UtilizationPct = nil // NVML does not report it while MIG is on
	d.ECC = &nvml.ECC{Enabled: true, Corrected: new(uint64(0)), Uncorrectable: new(uint64(0))}
	d.Remap = &nvml.Remap{}
	for i := range n {
		caps := 1000*index + 100*i
		d.Partitions = append(d.Partitions, nvml.Partition{
			UUID: PartitionUUID(index, i), GI: 7 + i, CI: 0, Profile: "1g.5gb", Memory: Memory(5*GiB, 0),
			Nodes: []string{d.Nodes[0], fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", caps+1),
				fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", caps+2)},
		})
	}
	return d
}

// Lost returns GPU d after it fell off the bus: only its identity is known.
func Lost(d nvml.Device) nvml.Device {
	d = identity(d)
	d.Problem = &nvml.Problem{Kind: nvml.ProblemLost, Code: 15, Call: "nvmlDeviceGetMemoryInfo",
		Text: "the GPU has fallen off the bus"}
	return d
}

// ResetRequired returns GPU d as NVML reports it when it must be reset.
func ResetRequired(d nvml.Device) nvml.Device {
	d = identity(d)
	d.Problem = &nvml.Problem{Kind: nvml.ProblemReset, Code: 16, Call: "nvmlDeviceGetMemoryInfo",
		Text: "the GPU must be reset"}
	return d
}

func identity(d nvml.Device) nvml.Device {
	return nvml.Device{UUID: d.UUID, Index: d.Index, PCI: d.PCI, Minor: d.Minor, Name: d.Name, MIG: d.MIG,
		Nodes: d.Nodes, Partitions: d.Partitions}
}
