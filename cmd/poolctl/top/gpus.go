package top

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/cmd/poolctl/listview"
	"github.com/pool-managerd/pool-managerd/cmd/poolctl/term"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// gpuRows is how many rows the GPUs of the host and their partitions have.
func (m *Model) gpuRows() int {
	n := 0
	for _, d := range m.picture.Devices.Devices {
		n += 1 + len(d.Partitions)
	}
	return n
}

// gpus is the header and as many rows of GPUs as there is room for.
func (m *Model) gpus() []term.Line {
	room, _ := m.parts()
	if room == 0 {
		return nil
	}
	title := "GPU NAME                USE " + term.Left("VRAM", m.memoryWidth()) + " TEMP HEALTH      MEMORY BY POOL"
	if s := m.picture.Devices.Stale; s != nil {
		title = "GPU (old data) " + s.LastError
	}
	lines := []term.Line{m.Bar(title, 0)}
	for i := range m.picture.Devices.Devices {
		d := &m.picture.Devices.Devices[i]
		lines = append(lines, m.gpu(d))
		for j := range d.Partitions {
			lines = append(lines, m.partition(&d.Partitions[j]))
		}
	}
	if more := len(lines) - room; more > 0 {
		lines = append(lines[:room-1], listview.Plain(fmt.Sprintf("... %d more: poolctl devices", more+1)))
	}
	return lines
}

func (m *Model) gpu(d *wire.GPUDevice) term.Line {
	use := unknown
	if d.UtilizationPercent != nil {
		use = fmt.Sprintf("%d%%", *d.UtilizationPercent)
	}
	temperature := unknown
	if d.TemperatureCelsius != nil {
		temperature = fmt.Sprintf("%dC", *d.TemperatureCelsius)
	}
	return term.Line{
		{Text: fmt.Sprintf("%3d %s %s %s %s ", d.Index, term.Left(strings.TrimPrefix(d.Name, "NVIDIA "), 18),
			term.Right(use, 4), m.memory(d.VRAM), term.Right(temperature, 4))},
		{Text: term.Left(d.Health, 11), Style: healthStyle(d.Health)},
		{Text: " " + byPool(processesOf(d))},
	}
}

func (m *Model) partition(p *wire.MIGPartition) term.Line {
	return listview.Plain(fmt.Sprintf("    %s %s %s %s %s", term.Left("  "+p.Profile, 18), term.Left("", 4),
		m.memory(p.VRAM), term.Left("", 4+1+11), byPool(p.Processes)))
}

func healthStyle(health string) term.Style {
	switch registry.Health(health) {
	case registry.HealthOK:
		return term.Green
	case registry.HealthUnknown:
		return 0
	case registry.HealthDegraded:
		return term.Yellow | term.Bold
	}
	return term.Red | term.Bold
}

// wide is a terminal with room for bars.
const wide = 100

// Widths of memory, without its bar and of the bar.
const (
	memoryText = 10
	memoryBar  = 8
)

func (m *Model) memoryWidth() int {
	if m.Width >= wide {
		return memoryText + memoryBar + 3
	}
	return memoryText
}

// memory is used and total memory, on a wide terminal with a bar.
func (m *Model) memory(v wire.VRAM) string {
	if v.UsedBytes == nil || v.TotalBytes == nil || *v.TotalBytes == 0 {
		return term.Left(unknown, m.memoryWidth())
	}
	text := term.Left(size(v.UsedBytes)+"/"+size(v.TotalBytes), memoryText)
	if m.Width < wide {
		return text
	}
	full := int(memoryBar*float64(*v.UsedBytes)/float64(*v.TotalBytes) + 0.5)
	full = max(0, min(memoryBar, full))
	return "[" + strings.Repeat("#", full) + strings.Repeat(".", memoryBar-full) + "] " + text
}

// byPool is the memory of each pool on a GPU, and of what is no engine.
func byPool(processes []wire.GPUProcess) string {
	var names []string
	of := make(map[string]*uint64)
	for _, p := range processes {
		name := p.PoolID
		if name == "" {
			name = "(other)"
		}
		if _, known := of[name]; !known {
			names = append(names, name)
			of[name] = nil
		}
		of[name] = add(of[name], p.UsedBytes)
	}
	for i, name := range names {
		names[i] = name + " " + size(of[name])
	}
	return strings.Join(names, ", ")
}
