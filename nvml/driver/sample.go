package driver

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// card is one physical GPU of a session: its handle, and the facts that do not change.
type card struct {
	handle gonvml.Device
	fixed  nvml.Device
}

// Sample reads every GPU. A GPU that does not answer is in the snapshot with its Problem and its
// last known state. An error is a *nvml.Problem of the driver as a whole: the session must be
// closed.
func (d *Driver) Sample() (*nvml.Snapshot, error) {
	if !d.open {
		return nil, &nvml.Problem{Kind: nvml.ProblemOther, Code: int(gonvml.ERROR_UNINITIALIZED),
			Text: errNotOpen.Error()}
	}
	s := &nvml.Snapshot{Taken: time.Now(), Driver: d.facts}
	d.minors = readMinors(d.o.Proc)
	for i := range d.cards {
		r := &reading{d: d}
		device := r.device(i)
		if r.fatal != nil {
			return nil, r.fatal
		}
		device.Problem = r.problem
		s.Devices = append(s.Devices, device)
	}
	s.Devices = d.seen.settle(s.Devices)
	s.Driver.Missing = slices.Sorted(maps.Keys(d.missing))
	s.Driver.NodeFaults = nodeFaults(s.Devices, lookAt, videoGID)
	return s, nil
}

// reading is one pass over one GPU. It stops after a problem, since a lost GPU answers every call
// slowly.
type reading struct {
	d       *Driver
	problem *nvml.Problem // of this GPU
	fatal   *nvml.Problem // of the driver
}

func (r *reading) over() bool { return r.problem != nil || r.fatal != nil }

// has reports whether a call returned its value, and records what its return code means for the
// GPU. Values that are unsupported, missing or forbidden are absent and not a problem.
func (r *reading) has(name string, ret gonvml.Return, essential bool) bool {
	switch {
	case ret == gonvml.SUCCESS:
		return true
	case endsSession(ret):
		r.fatal = problem(name, ret)
	case ret == gonvml.ERROR_GPU_IS_LOST || ret == gonvml.ERROR_RESET_REQUIRED || essential:
		r.problem = problem(name, ret)
	}
	return false
}

// get reads an optional value; nil if the GPU does not report it.
func get[T any](r *reading, name string, f func() (T, gonvml.Return)) *T {
	if r.over() {
		return nil
	}
	value, ret := ask(r.d, name, f)
	if !r.has(name, ret, false) {
		return nil
	}
	return &value
}

// must reads a value without which a GPU is unusable.
func must[T any](r *reading, name string, f func() (T, gonvml.Return)) (value T) {
	if r.over() {
		return value
	}
	value, ret := ask(r.d, name, f)
	r.has(name, ret, true)
	return value
}

// device reads the GPU of that index.
func (r *reading) device(index int) nvml.Device {
	c := r.card(index)
	if c == nil {
		return nvml.Device{Index: index}
	}
	dev := c.fixed
	h := c.handle
	dev.Memory = r.memory(h)
	if u := get(r, "nvmlDeviceGetUtilizationRates", h.GetUtilizationRates); u != nil {
		dev.UtilizationPct = number(u.Gpu)
	}
	if t := get(r, "nvmlDeviceGetTemperature", func() (uint32, gonvml.Return) {
		return h.GetTemperature(gonvml.TEMPERATURE_GPU)
	}); t != nil {
		dev.TemperatureC = number(*t)
	}
	if p := get(r, "nvmlDeviceGetPerformanceState", h.GetPerformanceState); p != nil && *p != gonvml.PSTATE_UNKNOWN {
		dev.PowerState = number(*p)
	}
	if p := get(r, "nvmlDeviceGetPowerUsage", h.GetPowerUsage); p != nil {
		dev.PowerMilliwatts = number(*p)
	}
	dev.ECC = r.ecc(h)
	dev.Remap = r.remap(h)
	dev.Recovery = r.recovery(h)
	dev.MIG = r.mig(h)
	users := r.contexts(h)
	dev.Processes, dev.Listed = r.processes(users), users.listed
	if dev.MIG != nil && *dev.MIG {
		dev.Partitions = r.partitions(dev, h, users)
	}
	return dev
}

// card returns the handle and the fixed facts of a GPU, read when it answers for the first time in
// this session.
func (r *reading) card(index int) *card {
	if c := r.d.cards[index]; c != nil {
		return c
	}
	h := must(r, "nvmlDeviceGetHandleByIndex_v2", func() (gonvml.Device, gonvml.Return) {
		return r.d.api.DeviceGetHandleByIndex(index)
	})
	if r.over() {
		return nil
	}
	fixed := nvml.Device{Index: index}
	fixed.UUID = must(r, "nvmlDeviceGetUUID", h.GetUUID)
	pci := must(r, "nvmlDeviceGetPciInfo_v3", h.GetPciInfo)
	fixed.PCI = fmt.Sprintf("%08x:%02x:%02x.0", pci.Domain, pci.Bus, pci.Device)
	if name := get(r, "nvmlDeviceGetName", h.GetName); name != nil {
		fixed.Name = *name
	}
	type capability struct{ major, minor int }
	if c := get(r, "nvmlDeviceGetCudaComputeCapability", func() (capability, gonvml.Return) {
		major, minor, ret := h.GetCudaComputeCapability()
		return capability{major, minor}, ret
	}); c != nil {
		fixed.ComputeCapability = fmt.Sprintf("%d.%d", c.major, c.minor)
	}
	if fixed.Minor = get(r, "nvmlDeviceGetMinorNumber", h.GetMinorNumber); fixed.Minor != nil {
		fixed.Nodes = []string{fmt.Sprintf("/dev/nvidia%d", *fixed.Minor)}
	}
	if r.over() {
		return nil
	}
	r.d.cards[index] = &card{h, fixed}
	return r.d.cards[index]
}

// memory prefers version 2, which reports the memory reserved by the driver separately.
func (r *reading) memory(h gonvml.Device) *nvml.Memory {
	if m := get(r, "nvmlDeviceGetMemoryInfo_v2", h.GetMemoryInfo_v2); m != nil {
		return &nvml.Memory{Total: m.Total, Free: m.Free, Used: m.Used, Reserved: &m.Reserved}
	}
	if m := get(r, "nvmlDeviceGetMemoryInfo", h.GetMemoryInfo); m != nil {
		return &nvml.Memory{Total: m.Total, Free: m.Free, Used: m.Used}
	}
	return nil
}

func (r *reading) ecc(h gonvml.Device) *nvml.ECC {
	mode := get(r, "nvmlDeviceGetEccMode", func() (gonvml.EnableState, gonvml.Return) {
		current, _, ret := h.GetEccMode()
		return current, ret
	})
	if mode == nil {
		return nil
	}
	e := &nvml.ECC{Enabled: *mode == gonvml.FEATURE_ENABLED}
	if !e.Enabled {
		return e
	}
	count := func(kind gonvml.MemoryErrorType) *uint64 {
		return get(r, "nvmlDeviceGetTotalEccErrors", func() (uint64, gonvml.Return) {
			return h.GetTotalEccErrors(kind, gonvml.VOLATILE_ECC)
		})
	}
	e.Corrected, e.Uncorrectable = count(gonvml.MEMORY_ERROR_TYPE_CORRECTED),
		count(gonvml.MEMORY_ERROR_TYPE_UNCORRECTED)
	return e
}

func (r *reading) remap(h gonvml.Device) *nvml.Remap {
	return get(r, "nvmlDeviceGetRemappedRows", func() (nvml.Remap, gonvml.Return) {
		corrected, uncorrectable, pending, failed, ret := h.GetRemappedRows()
		return nvml.Remap{Corrected: corrected, Uncorrectable: uncorrectable, Pending: pending, Failed: failed}, ret
	})
}

// recovery reads field 230, which has its own return code besides that of the call.
func (r *reading) recovery(h gonvml.Device) nvml.Recovery {
	const name = "nvmlDeviceGetFieldValues"
	value := get(r, name, func() (uint32, gonvml.Return) {
		fields := []gonvml.FieldValue{{FieldId: gonvml.FI_DEV_GET_GPU_RECOVERY_ACTION}}
		ret := h.GetFieldValues(fields)
		if ret == gonvml.SUCCESS {
			ret = gonvml.Return(fields[0].NvmlReturn)
		}
		return hostUint32(fields[0].Value), ret
	})
	if value == nil {
		return ""
	}
	return recoveryOf(*value)
}

// number returns a pointer to the value of any of NVML's integer types.
func number[N ~int32 | ~uint32](n N) *int { return new(int(n)) }

// roster remembers each GPU that this process has identified, so that a lost GPU keeps its
// identity, even in a later session.
type roster struct{ devices map[string]nvml.Device }

func newRoster() *roster { return &roster{make(map[string]nvml.Device)} }

// settle gives GPUs that could not be identified the known identity that is left, by index, and
// appends those that the driver no longer lists. A GPU with a Problem keeps the values that it
// reported last.
func (r *roster) settle(devices []nvml.Device) []nvml.Device {
	absent := maps.Clone(r.devices)
	for i, dev := range devices {
		if dev.UUID == "" {
			continue
		}
		delete(absent, dev.UUID)
		if dev.Problem == nil {
			r.devices[dev.UUID] = dev
		} else if last, ok := r.devices[dev.UUID]; ok {
			devices[i] = asBefore(last, dev)
		}
	}
	lost := slices.SortedFunc(maps.Values(absent), func(a, b nvml.Device) int {
		return cmp.Or(cmp.Compare(a.Index, b.Index), cmp.Compare(a.UUID, b.UUID))
	})
	for i, dev := range devices {
		at := slices.IndexFunc(lost, func(l nvml.Device) bool { return l.Index == dev.Index })
		if dev.UUID == "" && at >= 0 {
			devices[i] = asBefore(lost[at], dev)
			lost = slices.Delete(lost, at, at+1)
		}
	}
	for n, dev := range lost {
		gone := nvml.Device{Index: len(devices) + n, Problem: &nvml.Problem{
			Kind: nvml.ProblemLost, Code: int(gonvml.ERROR_GPU_IS_LOST), Text: "the driver no longer lists this GPU"}}
		lost[n] = asBefore(dev, gone)
	}
	return append(devices, lost...)
}

// asBefore returns what was known last, with the current index and problem and without processes,
// which change.
func asBefore(last, now nvml.Device) nvml.Device {
	last.Index, last.Problem = now.Index, now.Problem
	last.Processes, last.Listed = nil, false
	last.Partitions = slices.Clone(last.Partitions)
	for i := range last.Partitions {
		last.Partitions[i].Processes, last.Partitions[i].Listed = nil, false
	}
	return last
}
