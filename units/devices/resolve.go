// Package devices resolves the device mask of a pool file to GPUs and MIG partitions of this host:
// an index or a shortened UUID becomes a full UUID, which names the same device after a reboot.
//
// It owns what a mask may name and which masks may overlap. It is pure: facts about the host are
// arguments. It must not access a driver, render a unit or know when an engine runs.
package devices

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pattern"
)

// Target is one entry of a mask, resolved.
type Target struct {
	Entry             string // as in the pool file
	UUID              string // full, of the GPU or the MIG partition: what CUDA_VISIBLE_DEVICES holds
	GPU               string // full UUID of the physical GPU
	Index             int    // NVML's number of the GPU
	Name              string
	PCI               string
	ComputeCapability string
	MIG               bool
	Nodes             []string // its own device nodes, without the shared ones
	Total             uint64   // its memory in bytes; 0: unknown
}

// Resolve returns the devices of a mask, in its order. Every error is a *registry.Failure:
// GPU_UNAVAILABLE if the host's GPUs are unknown or a GPU does not answer; DEVICE_MASK_INVALID if
// the mask is invalid on this host.
func Resolve(mask []string, s *nvml.Snapshot) ([]Target, error) {
	if len(mask) == 0 {
		return nil, nil
	}
	if f := unusable(s); f != nil {
		return nil, f
	}
	var out []Target
	first := make(map[string]string, len(mask))
	for _, entry := range mask {
		t, err := find(entry, s)
		if err != nil {
			return nil, err
		}
		if before, twice := first[t.UUID]; twice {
			return nil, invalid(fmt.Sprintf("%q and %q are the same device, %s", before, entry, t.UUID),
				"Name each device once; poolctl devices lists them.")
		}
		first[t.UUID] = entry
		out = append(out, t)
	}
	return out, mixed(out)
}

// unusable returns why no mask can be resolved.
func unusable(s *nvml.Snapshot) *registry.Failure {
	switch {
	case s == nil:
		return registry.Fail(registry.CodeGPUUnavailable,
			"the GPUs of this host are unknown: pool-gpu has not answered yet",
			"See systemctl status pool-gpu.socket pool-gpu.service.")
	case s.Driver.Problem != nil:
		return registry.Fail(registry.CodeGPUUnavailable, "the NVIDIA driver reports no data: "+s.Driver.Problem.Text,
			DriverHint(s.Driver.Problem.Kind))
	}
	return nil
}

// DriverHint returns what to do about an unavailable driver.
func DriverHint(kind nvml.ProblemKind) string {
	switch kind {
	case nvml.ProblemNoLibrary:
		return "Install the NVIDIA driver with its library libnvidia-ml.so.1; a host without GPUs needs devices = [] " +
			"and require_gpu = false. nvidia-smi shows whether it works."
	case nvml.ProblemNoDriver:
		return "Load the driver (modprobe nvidia) and read journalctl -k -g '^NVRM'."
	case nvml.ProblemMismatch:
		return "The driver's library and its kernel module are of different versions: reboot, or unload and load the " +
			"nvidia modules. The module's is in cat /proc/driver/nvidia/version."
	case nvml.ProblemNoPermission:
		return "Look at the modes: ls -l /dev/nvidia*; pool-gpu runs as root, so that something else forbids it."
	case nvml.ProblemHung:
		return "A call into the driver does not return: read journalctl -k; such a host often needs a reboot."
	}
	return "Run nvidia-smi, and read journalctl -u pool-gpu and journalctl -k."
}

func invalid(message, hint string) *registry.Failure {
	return registry.Fail(registry.CodeDeviceMaskInvalid, message, hint)
}

// Names whose form shows their kind.
var (
	indexForm  = pattern.Lazy(`^[0-9]{1,4}$`)
	pciForm    = pattern.Lazy(`^(?:([0-9a-fA-F]{4}|[0-9a-fA-F]{8}):)?([0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])$`)
	legacyForm = pattern.Lazy(`^(?i:mig-gpu-)([0-9a-fA-F-]{36})/([0-9]{1,3})/([0-9]{1,3})$`)
	prefixForm = pattern.Lazy(`^(?i:(gpu|mig)-)[0-9a-fA-F]{4}[0-9a-fA-F-]*$`)
)

// find returns the device that an entry names.
func find(entry string, s *nvml.Snapshot) (Target, error) {
	var found []Target
	match := matcher(entry)
	for _, d := range s.Devices {
		if match(d, nil) {
			found = append(found, whole(entry, d))
		}
		for i := range d.Partitions {
			if match(d, &d.Partitions[i]) {
				found = append(found, part(entry, d, d.Partitions[i]))
			}
		}
	}
	switch len(found) {
	case 0:
		return Target{}, invalid(fmt.Sprintf("device %q does not exist on this host", entry), thereIs(s))
	case 1:
		return found[0], usable(found[0], s)
	}
	return Target{}, invalid(fmt.Sprintf("device %q is ambiguous: %s or %s", entry, found[0].UUID, found[1].UUID),
		"Give more digits of the UUID. "+thereIs(s))
}

// matcher returns a function that reports whether the entry names a device or one of its
// partitions.
func matcher(entry string) func(nvml.Device, *nvml.Partition) bool {
	nothing := func(nvml.Device, *nvml.Partition) bool { return false }
	switch {
	case indexForm().MatchString(entry):
		n, _ := strconv.Atoi(entry) // four digits fit
		return func(d nvml.Device, p *nvml.Partition) bool { return p == nil && d.Index == n }
	case pciForm().MatchString(entry):
		want := CanonicalPCI(entry)
		return func(d nvml.Device, p *nvml.Partition) bool { return p == nil && CanonicalPCI(d.PCI) == want }
	case legacyForm().MatchString(entry):
		return func(d nvml.Device, p *nvml.Partition) bool {
			return p != nil && strings.EqualFold(p.Legacy(d.UUID), entry)
		}
	case prefixForm().MatchString(entry):
		want := strings.ToLower(entry)
		return func(d nvml.Device, p *nvml.Partition) bool {
			uuid := d.UUID
			if p != nil {
				uuid = p.UUID
			}
			return strings.HasPrefix(strings.ToLower(uuid), want)
		}
	}
	return nothing
}

// CanonicalPCI writes a PCI bus id as NVML does, with eight digits of domain and in lower case;
// anything else is returned unchanged.
func CanonicalPCI(id string) string {
	m := pciForm().FindStringSubmatch(id)
	if m == nil {
		return id
	}
	domain, _ := strconv.ParseUint(m[1], 16, 32) // without a domain: domain 0
	return fmt.Sprintf("%08x:%s", domain, strings.ToLower(m[2]))
}

func whole(entry string, d nvml.Device) Target {
	t := Target{Entry: entry, UUID: d.UUID, GPU: d.UUID, Index: d.Index, Name: d.Name, PCI: d.PCI,
		ComputeCapability: d.ComputeCapability, Nodes: d.Nodes}
	if d.Memory != nil {
		t.Total = d.Memory.Total
	}
	return t
}

func part(entry string, d nvml.Device, p nvml.Partition) Target {
	t := whole(entry, d)
	t.UUID, t.MIG, t.Nodes, t.Total = p.UUID, true, p.Nodes, 0
	if p.Profile != "" {
		t.Name = strings.TrimSpace(d.Name + " MIG " + p.Profile)
	}
	if p.Memory != nil {
		t.Total = p.Memory.Total
	}
	return t
}

// usable rejects a device that exists and cannot be used by an engine.
func usable(t Target, s *nvml.Snapshot) error {
	d, _ := s.Device(t.GPU)
	switch {
	case len(t.Nodes) == 0:
		why := "its device node is unknown"
		if d.Problem != nil {
			why = d.Problem.Text
		}
		return registry.Fail(registry.CodeGPUUnavailable,
			fmt.Sprintf("GPU %d (%s) does not answer: %s", t.Index, t.GPU, why),
			"Run nvidia-smi, and read journalctl -k.")
	case !t.MIG && d.MIG != nil && *d.MIG:
		return invalid(
			fmt.Sprintf("GPU %d (%s) is in MIG mode, in which CUDA sees only its partitions", t.Index, t.GPU),
			"Name a partition. "+thereIs(s))
	}
	return nil
}

// mixed rejects masks that CUDA does not support: a process sees one partition, or whole GPUs.
func mixed(mask []Target) error {
	partitions := 0
	for _, t := range mask {
		if t.MIG {
			partitions++
		}
	}
	switch {
	case partitions > 0 && partitions < len(mask):
		return invalid("the mask has a MIG partition and a whole GPU; CUDA supports only one or the other in a process",
			"Give one partition or whole GPUs; poolctl devices lists them.")
	case partitions > 1:
		return invalid(fmt.Sprintf("the mask has %d MIG partitions; CUDA supports one in a process", partitions),
			"Use replicas with one partition each; poolctl devices lists them.")
	}
	return nil
}

// thereIs lists the devices that a mask can name.
func thereIs(s *nvml.Snapshot) string {
	if len(s.Devices) == 0 {
		return "This host has no NVIDIA GPU: see poolctl devices."
	}
	var list []string
	for _, d := range s.Devices {
		list = append(list, strings.TrimSpace(fmt.Sprintf("%d %s %s", d.Index, d.UUID, d.Name)))
		for _, p := range d.Partitions {
			list = append(list, strings.TrimSpace(fmt.Sprintf("%s %s", p.UUID, p.Profile)))
		}
	}
	return "There is: " + strings.Join(list, "; ") + ". See poolctl devices."
}
