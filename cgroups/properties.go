package cgroups

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// Property is a unit property as org.freedesktop.systemd1(5) names it. Value is a uint64, or a
// []byte for a CPU or node mask.
type Property struct {
	Name  string
	Value any
}

// Infinity is PID 1's value for "no limit", and for a weight that is not set (CGROUP_LIMIT_MAX,
// CGROUP_WEIGHT_INVALID in systemd's source).
const Infinity = uint64(math.MaxUint64)

// Names of the properties that Properties may return, as systemd.resource-control(5) has them.
const (
	MemoryMax          = "MemoryMax"
	MemoryHigh         = "MemoryHigh"
	MemoryLow          = "MemoryLow"
	MemorySwapMax      = "MemorySwapMax"
	CPUWeight          = "CPUWeight"
	CPUQuotaPerSecUSec = "CPUQuotaPerSecUSec"
	AllowedCPUs        = "AllowedCPUs"
	AllowedMemoryNodes = "AllowedMemoryNodes"
	IOWeight           = "IOWeight"
	TasksMax           = "TasksMax"
)

// UnsupportedError is a resource that LinuxResources can ask for and PID 1 has no property for.
// PID 1 owns the cgroup, so the resource is refused and not written to the cgroup directly.
type UnsupportedError struct {
	Field  string // the path inside LinuxResources, "cpu.realtimeRuntime"
	Reason string
}

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("resource %s: PID 1 cannot set it: %s", e.Field, e.Reason)
}

// ValueError is a resource with an invalid value.
type ValueError struct {
	Field  string
	Value  string
	Reason string
}

func (e *ValueError) Error() string {
	return fmt.Sprintf("resource %s is %s: %s", e.Field, e.Value, e.Reason)
}

// Properties turns LinuxResources into unit properties, sorted by name. A resource that is not
// asked for has no property. Errors are *UnsupportedError, *ValueError or *ListError.
func Properties(r *specs.LinuxResources) ([]Property, error) {
	if r == nil {
		return nil, nil
	}
	if err := refuseUnsupported(r); err != nil {
		return nil, err
	}
	set := map[string]any{}
	for _, step := range []func(*specs.LinuxResources, map[string]any) error{
		memoryProperties, cpuProperties, cpusetProperties, ioProperties, pidsProperties, unifiedProperties,
	} {
		if err := step(r, set); err != nil {
			return nil, err
		}
	}
	props := make([]Property, 0, len(set))
	for _, name := range slices.Sorted(maps.Keys(set)) {
		props = append(props, Property{Name: name, Value: set[name]})
	}
	return props, nil
}

// limit turns the specification's int64, where -1 is unlimited, into PID 1's uint64.
func limit(field string, v int64) (uint64, error) {
	switch {
	case v == -1:
		return Infinity, nil
	case v < 0:
		return 0, &ValueError{field, strconv.FormatInt(v, 10), "want bytes, or -1 for no limit"}
	}
	return uint64(v), nil
}

func memoryProperties(r *specs.LinuxResources, set map[string]any) error {
	m := r.Memory
	if m == nil {
		return nil
	}
	if m.Limit != nil {
		v, err := limit("memory.limit", *m.Limit)
		if err != nil {
			return err
		}
		set[MemoryMax] = v
	}
	if m.Reservation != nil {
		v, err := limit("memory.reservation", *m.Reservation)
		if err != nil {
			return err
		}
		set[MemoryLow] = v
	}
	if m.Swap != nil {
		v, err := swapAlone(m)
		if err != nil {
			return err
		}
		set[MemorySwapMax] = v
	}
	return nil
}

// swapAlone subtracts the memory from the specification's swap, which is memory and swap together
// (config-linux.md, "Memory").
func swapAlone(m *specs.LinuxMemory) (uint64, error) {
	if *m.Swap == -1 {
		return Infinity, nil
	}
	text := strconv.FormatInt(*m.Swap, 10)
	if m.Limit == nil || *m.Limit < 0 {
		return 0, &ValueError{"memory.swap", text, "it holds memory and swap together, so memory.limit is needed"}
	}
	if *m.Swap < *m.Limit {
		return 0, &ValueError{"memory.swap", text,
			"it holds memory and swap together and must not be below memory.limit"}
	}
	return uint64(*m.Swap - *m.Limit), nil
}

// quotaGrainUSec is the granularity of CPUQuotaPerSecUSec: PID 1 writes whole percents of a CPU.
const quotaGrainUSec = 10_000

func cpuProperties(r *specs.LinuxResources, set map[string]any) error {
	c := r.CPU
	if c == nil {
		return nil
	}
	if c.Shares != nil && *c.Shares > 0 {
		set[CPUWeight] = weightFromShares(*c.Shares)
	}
	if c.Quota == nil || *c.Quota == 0 {
		return nil
	}
	v, err := quotaPerSecond(*c.Quota, c.Period)
	if err != nil {
		return err
	}
	set[CPUQuotaPerSecUSec] = v
	return nil
}

// weightFromShares maps 2..262144 of cgroup v1 on 1..10000 of v2, as runc does.
func weightFromShares(shares uint64) uint64 {
	shares = min(max(shares, 2), 262144)
	return 1 + (shares-2)*9999/262142
}

// quotaPerSecond turns quota microseconds in each period into microseconds a second, rounded up to
// what PID 1 can keep, so that a small quota never becomes none.
func quotaPerSecond(quota int64, period *uint64) (uint64, error) {
	if quota == -1 {
		return Infinity, nil
	}
	if quota < 0 {
		return 0, &ValueError{"cpu.quota", strconv.FormatInt(quota, 10), "want microseconds, or -1 for no limit"}
	}
	p := uint64(quotaPeriodUSec)
	if period != nil && *period != 0 {
		p = *period
	}
	perSecond := float64(quota) * 1e6 / float64(p)
	grains := math.Ceil(perSecond / quotaGrainUSec)
	if grains > math.MaxInt64/quotaGrainUSec {
		return 0, &ValueError{"cpu.quota", strconv.FormatInt(quota, 10), "it exceeds the CPUs of any machine"}
	}
	return uint64(grains) * quotaGrainUSec, nil
}

func cpusetProperties(r *specs.LinuxResources, set map[string]any) error {
	if r.CPU == nil {
		return nil
	}
	for name, list := range map[string]string{AllowedCPUs: r.CPU.Cpus, AllowedMemoryNodes: r.CPU.Mems} {
		if list == "" {
			continue
		}
		mask, err := Mask(list)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		set[name] = mask
	}
	return nil
}

func ioProperties(r *specs.LinuxResources, set map[string]any) error {
	if r.BlockIO == nil || r.BlockIO.Weight == nil || *r.BlockIO.Weight == 0 {
		return nil
	}
	w := uint64(*r.BlockIO.Weight)
	if w < 10 || w > 1000 {
		return &ValueError{"blockIO.weight", strconv.FormatUint(w, 10), "want 10 to 1000"}
	}
	// 10..1000 of cgroup v1 on 1..10000 of v2, as runc does.
	set[IOWeight] = 1 + (w-10)*9999/990
	return nil
}

func pidsProperties(r *specs.LinuxResources, set map[string]any) error {
	if r.Pids == nil || r.Pids.Limit == nil {
		return nil
	}
	switch v := *r.Pids.Limit; {
	case v == -1:
		set[TasksMax] = Infinity
	case v == 0:
		set[TasksMax] = uint64(1) // PID 1 refuses 0, and one task is the service itself
	case v < 0:
		return &ValueError{"pids.limit", strconv.FormatInt(v, 10), "want a number of tasks, or -1 for no limit"}
	default:
		set[TasksMax] = uint64(v)
	}
	return nil
}

// unifiedProperties reads the cgroup v2 files that have no field of their own.
func unifiedProperties(r *specs.LinuxResources, set map[string]any) error {
	for _, file := range slices.Sorted(maps.Keys(r.Unified)) {
		value := strings.TrimSpace(r.Unified[file])
		var err error
		switch file {
		case fileMemoryHigh:
			set[MemoryHigh], err = bytesOrMax(file, value)
		case fileCPUWeight:
			set[CPUWeight], err = weight(file, value)
		case fileIOWeight:
			set[IOWeight], err = weight(file, strings.TrimPrefix(value, "default "))
		default:
			err = &UnsupportedError{"unified." + file, "no unit property corresponds to this file"}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func bytesOrMax(file, value string) (uint64, error) {
	if value == "max" {
		return Infinity, nil
	}
	v, err := strconv.ParseUint(value, 10, 64)
	if err != nil {
		return 0, &ValueError{"unified." + file, strconv.Quote(value), "want bytes or \"max\""}
	}
	return v, nil
}

func weight(file, value string) (uint64, error) {
	v, err := strconv.ParseUint(value, 10, 64)
	if err != nil || v < 1 || v > 10000 {
		return 0, &ValueError{"unified." + file, strconv.Quote(value), "want 1 to 10000"}
	}
	return v, nil
}
