package nvmltest

import (
	"slices"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// copied returns a deep copy of the current facts. h.mu is held.
func (h *Host) copied() *nvml.Snapshot {
	s := h.now
	s.Driver.Problem = pointer(s.Driver.Problem)
	s.Driver.Missing = slices.Clone(s.Driver.Missing)
	s.Driver.NodeFaults = slices.Clone(s.Driver.NodeFaults)
	s.Devices = slices.Clone(s.Devices)
	for i := range s.Devices {
		copyDevice(&s.Devices[i])
	}
	return &s
}

func copyDevice(d *nvml.Device) {
	d.Minor, d.Problem, d.MIG = pointer(d.Minor), pointer(d.Problem), pointer(d.MIG)
	d.UtilizationPct, d.TemperatureC = pointer(d.UtilizationPct), pointer(d.TemperatureC)
	d.PowerState, d.PowerMilliwatts = pointer(d.PowerState), pointer(d.PowerMilliwatts)
	d.Memory, d.Remap, d.ECC = copyMemory(d.Memory), pointer(d.Remap), pointer(d.ECC)
	if d.ECC != nil {
		d.ECC.Corrected, d.ECC.Uncorrectable = pointer(d.ECC.Corrected), pointer(d.ECC.Uncorrectable)
	}
	d.Nodes, d.Processes = slices.Clone(d.Nodes), copyProcesses(d.Processes)
	d.Partitions = slices.Clone(d.Partitions)
	for i := range d.Partitions {
		p := &d.Partitions[i]
		p.Memory, p.Nodes, p.Processes = copyMemory(p.Memory), slices.Clone(p.Nodes), copyProcesses(p.Processes)
	}
}

func copyMemory(m *nvml.Memory) *nvml.Memory {
	m = pointer(m)
	if m != nil {
		m.Reserved = pointer(m.Reserved)
	}
	return m
}

func copyProcesses(ps []nvml.Process) []nvml.Process {
	ps = slices.Clone(ps)
	for i := range ps {
		ps[i].Used = pointer(ps[i].Used)
	}
	return ps
}

func pointer[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
