package trial

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// figure is one fact that both pool-gpu and nvidia-smi report.
type figure struct {
	name  string
	query string // of nvidia-smi --query-gpu
	// ours returns what pool-gpu reports, in the unit of nvidia-smi; "": it reports none.
	ours func(nvml.Snapshot, nvml.Device) string
	// near is by how much two samples of a value that changes may differ.
	near float64
	// shares is set if near is a fraction of the larger value.
	shares bool
}

const mib = 1 << 20

// figures are compared one by one. Memory is compared with a tolerance of 2 MiB: nvidia-smi rounds
// each value to MiB.
var figures = []figure{
	{name: "driver", query: "driver_version", ours: func(s nvml.Snapshot,
		_ nvml.Device) string {
		return s.Driver.Version
	}},
	{name: "index", query: "index", ours: func(_ nvml.Snapshot,
		d nvml.Device) string {
		return strconv.Itoa(d.Index)
	}},
	{name: "UUID", query: "uuid", ours: func(_ nvml.Snapshot, d nvml.Device) string { return d.UUID }},
	{name: "name", query: "name", ours: func(_ nvml.Snapshot, d nvml.Device) string { return d.Name }},
	{name: "PCI", query: "pci.bus_id", ours: func(_ nvml.Snapshot,
		d nvml.Device) string {
		return strings.ToUpper(d.PCI)
	}},
	{name: "compute capability", query: "compute_cap",
		ours: func(_ nvml.Snapshot, d nvml.Device) string { return d.ComputeCapability }},
	{name: "memory, total", query: "memory.total", near: 2,
		ours: memory(func(m nvml.Memory) uint64 { return m.Total })},
	{name: "memory, reserved", query: "memory.reserved", near: 2, ours: reserved},
	{name: "memory, used", query: "memory.used", near: 2, ours: memory(func(m nvml.Memory) uint64 { return m.Used })},
	{name: "memory, free", query: "memory.free", near: 2, ours: memory(func(m nvml.Memory) uint64 { return m.Free })},
	{name: "utilization", query: "utilization.gpu", near: 100,
		ours: optional(func(d nvml.Device) *int { return d.UtilizationPct })},
	{name: "temperature", query: "temperature.gpu", near: 3,
		ours: optional(func(d nvml.Device) *int { return d.TemperatureC })},
	{name: "performance state", query: "pstate", ours: func(_ nvml.Snapshot, d nvml.Device) string {
		if d.PowerState == nil {
			return ""
		}
		return "P" + strconv.Itoa(*d.PowerState)
	}},
	{name: "power", query: "power.draw", near: 0.3, shares: true, ours: func(_ nvml.Snapshot, d nvml.Device) string {
		if d.PowerMilliwatts == nil {
			return ""
		}
		return fmt.Sprintf("%.2f", float64(*d.PowerMilliwatts)/1000)
	}},
	{name: "ECC", query: "ecc.mode.current", ours: func(_ nvml.Snapshot, d nvml.Device) string {
		if d.ECC == nil {
			return ""
		}
		return enabled(d.ECC.Enabled)
	}},
	{name: "ECC, corrected", query: "ecc.errors.corrected.volatile.total",
		ours: errorsOf(func(e nvml.ECC) *uint64 { return e.Corrected })},
	{name: "ECC, uncorrected", query: "ecc.errors.uncorrected.volatile.total",
		ours: errorsOf(func(e nvml.ECC) *uint64 { return e.Uncorrectable })},
	{name: "MIG mode", query: "mig.mode.current", ours: func(_ nvml.Snapshot, d nvml.Device) string {
		if d.MIG == nil {
			return ""
		}
		return enabled(*d.MIG)
	}},
	// pool-gpu does not report these; nvidia-smi's value is for the reader.
	{name: "persistence mode", query: "persistence_mode"},
	{name: "compute mode", query: "compute_mode"},
	{name: "addressing mode", query: "addressing_mode"},
}

func memory(f func(nvml.Memory) uint64) func(nvml.Snapshot, nvml.Device) string {
	return func(_ nvml.Snapshot, d nvml.Device) string {
		if d.Memory == nil {
			return ""
		}
		return strconv.FormatUint(f(*d.Memory)/mib, 10)
	}
}

func reserved(_ nvml.Snapshot, d nvml.Device) string {
	if d.Memory == nil || d.Memory.Reserved == nil {
		return ""
	}
	return strconv.FormatUint(*d.Memory.Reserved/mib, 10)
}

func optional(f func(nvml.Device) *int) func(nvml.Snapshot, nvml.Device) string {
	return func(_ nvml.Snapshot, d nvml.Device) string {
		if v := f(d); v != nil {
			return strconv.Itoa(*v)
		}
		return ""
	}
}

func errorsOf(f func(nvml.ECC) *uint64) func(nvml.Snapshot, nvml.Device) string {
	return func(_ nvml.Snapshot, d nvml.Device) string {
		if d.ECC == nil {
			return ""
		}
		if v := f(*d.ECC); v != nil {
			return strconv.FormatUint(*v, 10)
		}
		return ""
	}
}

func enabled(on bool) string {
	if on {
		return "Enabled"
	}
	return "Disabled"
}

// verdict compares what pool-gpu and nvidia-smi report. nvidia-smi prints "[N/A]" and the like for
// what the GPU does not support; that is absent from pool-gpu.
func (f figure) verdict(ours, theirs string) string {
	absent := theirs == "" || strings.HasPrefix(theirs, "[") || theirs == "N/A"
	switch {
	case f.ours == nil:
		return "not reported by pool-gpu"
	case ours == "" && absent:
		return "absent in both"
	case ours == "" || absent:
		return "differs"
	case ours == theirs || f.within(ours, theirs):
		return "same"
	}
	return "differs"
}

func (f figure) within(ours, theirs string) bool {
	a, errA := strconv.ParseFloat(ours, 64)
	b, errB := strconv.ParseFloat(theirs, 64)
	if errors.Join(errA, errB) != nil || f.near == 0 {
		return false
	}
	bound := f.near
	if f.shares {
		bound *= math.Max(a, b)
	}
	return math.Abs(a-b) <= bound
}

// smi runs nvidia-smi for these queries and returns a row for each GPU. A query that this
// nvidia-smi does not know makes it refuse all, so they are then asked one by one; the unknown ones
// are empty.
func smi(ctx context.Context, program string, queries []string) ([][]string, error) {
	out, err := output(ctx, program, "--query-gpu="+strings.Join(queries, ","), "--format=csv,noheader,nounits")
	if err == nil {
		return parseCSV(out)
	}
	if len(queries) == 1 {
		return nil, err
	}
	var all [][]string
	for i, q := range queries {
		rows, err := smi(ctx, program, []string{q})
		if ctx.Err() != nil {
			return nil, err
		}
		for gpu, r := range rows {
			if gpu == len(all) {
				all = append(all, make([]string, len(queries)))
			}
			all[gpu][i] = r[0]
		}
	}
	if all == nil {
		return nil, err
	}
	return all, nil
}

func parseCSV(text string) ([][]string, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.TrimLeadingSpace = true
	rows, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("nvidia-smi printed %q: %w", text, err)
	}
	return rows, nil
}
