package render

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// defaultTasksMax applies if a pool sets none. PID 1's own default is a share of the kernel's limit
// and cannot be restored once a limit was set on a running unit.
const defaultTasksMax = 16384

// limitProperties converts [limits] to unit properties through the OCI runtime specification.
func limitProperties(p pool.Pool) ([]systemd.Property, error) {
	l := p.Limits
	tasks := l.TasksMax
	if tasks == 0 {
		tasks = defaultTasksMax
	}
	props, err := cgroups.Properties(cgroups.FromLimits(cgroups.Limits{
		MemoryMaxBytes:  l.MemoryMaxBytes,
		MemoryHighBytes: l.MemoryHighBytes,
		CPUQuotaPercent: l.CPUQuotaPercent,
		CPUs:            l.CPUs,
		CPUWeight:       l.CPUWeight,
		IOWeight:        l.IOWeight,
		TasksMax:        tasks,
	}))
	if err != nil {
		hint := "Correct [limits] of the pool."
		if list := (*cgroups.ListError)(nil); errors.As(err, &list) {
			hint = `Write cpus as numbers and ranges, "0-3,8".`
		}
		return nil, refuse(p, []pool.Refusal{pool.Refuse("limits", hint, "[limits]: %v", err)})
	}
	out := make([]systemd.Property, len(props))
	for i, prop := range props {
		out[i] = systemd.Property(prop)
	}
	return out, nil
}

// limitLines returns the rows of [limits], named as in package cgroups.
func limitLines(p pool.Pool) ([]Line, error) {
	props, err := limitProperties(p)
	if err != nil {
		return nil, err
	}
	lines := make([]Line, len(props))
	for i, prop := range props {
		lines[i] = limitRow(prop, p.Limits)
	}
	return lines, nil
}

func limitRow(prop systemd.Property, l pool.Limits) Line {
	const why = "[limits] of the pool file"
	switch prop.Name {
	case cgroups.CPUQuotaPerSecUSec:
		line := limitLine(prop.Name, prop.Value.(uint64), fmt.Sprintf("%d%%", prop.Value.(uint64)/10_000), why)
		line.Key = "CPUQuota"
		return line
	case cgroups.AllowedCPUs:
		return Line{Section: sectionService, Key: prop.Name, Text: cgroups.List(prop.Value.([]byte)), Why: why,
			Property: prop}
	case cgroups.TasksMax:
		if l.TasksMax == 0 {
			return limitLine(prop.Name, prop.Value.(uint64), "",
				"a fork bomb in one engine must not exhaust the host's processes")
		}
	}
	return limitLine(prop.Name, prop.Value.(uint64), "", why)
}

// LimitProperties returns every property of [limits] for SetUnitProperties on a running unit, in a
// fixed order: limits that the pool does not set are reset. SetUnitProperties accepts no other
// property of an engine's unit but its description.
func (u Unit) LimitProperties() []systemd.Property {
	named := map[string]any{}
	for _, line := range u.Lines {
		named[line.Property.Name] = line.Property.Value
	}
	props := []systemd.Property{
		{Name: cgroups.AllowedCPUs, Value: []byte{}},
		{Name: cgroups.CPUQuotaPerSecUSec, Value: cgroups.Infinity},
		{Name: cgroups.CPUWeight, Value: cgroups.Infinity},
		{Name: cgroups.IOWeight, Value: cgroups.Infinity},
		{Name: cgroups.MemoryHigh, Value: cgroups.Infinity},
		{Name: cgroups.MemoryMax, Value: cgroups.Infinity},
		{Name: cgroups.TasksMax, Value: cgroups.Infinity},
	}
	for i := range props {
		if value, ok := named[props[i].Name]; ok {
			props[i].Value = value
		}
	}
	return props
}

// limitLine returns a row of a cgroup property.
func limitLine(name string, value uint64, text, why string) Line {
	if text == "" {
		text = strconv.FormatUint(value, 10)
	}
	return Line{Section: sectionService, Key: name, Text: text, Why: why,
		Property: systemd.Property{Name: name, Value: value}}
}
