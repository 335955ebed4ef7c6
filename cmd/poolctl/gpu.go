package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry/api/wire"
)

// gib formats bytes as GiB with one decimal, "" if unknown.
func gib(bytes *uint64) string {
	if bytes == nil {
		return ""
	}
	return fmt.Sprintf("%.1f GiB", float64(*bytes)/(1<<30))
}

// vram formats used and total memory.
func vram(m wire.VRAM) string {
	switch {
	case m.TotalBytes == nil:
		return ""
	case m.UsedBytes == nil:
		return gib(m.TotalBytes)
	}
	return strings.TrimSuffix(gib(m.UsedBytes), " GiB") + "/" + gib(m.TotalBytes)
}

// poolVRAM sums the memory of a pool's devices; a sum with an unknown part is unknown.
func poolVRAM(devices []wire.Device) string {
	var total, free uint64
	totalKnown, freeKnown := true, true
	for _, d := range devices {
		if totalKnown = totalKnown && d.VRAMTotalBytes != nil; totalKnown {
			total += *d.VRAMTotalBytes
		}
		if freeKnown = freeKnown && d.VRAMFreeBytes != nil; freeKnown {
			free += *d.VRAMFreeBytes
		}
	}
	switch {
	case totalKnown && freeKnown:
		return gib(&free) + " free of " + gib(&total)
	case totalKnown:
		return gib(&total) + "; the free memory is unknown"
	}
	return ""
}

// poolDeviceTable shows the devices of one pool.
func (a *app) poolDeviceTable(devices []wire.Device) *table {
	t := &table{}
	t.row("DEVICE", "NAME", "UUID", "COMPUTE", "FREE", "VRAM", "HEALTH")
	for _, d := range devices {
		t.row(d.ID, d.Name, d.UUID, d.ComputeCapability, gib(d.VRAMFreeBytes), gib(d.VRAMTotalBytes), d.Health)
	}
	return t
}

// figure formats a number with its unit, "" if unknown.
func figure(n *int, unit string) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n) + unit
}

func watts(mw *int) string {
	if mw == nil {
		return ""
	}
	return fmt.Sprintf("%d W", (*mw+500)/1000)
}

// pstate is P0, the fastest, to P15.
func pstate(n *int) string {
	if n == nil {
		return ""
	}
	return "P" + strconv.Itoa(*n)
}

// ecc formats corrected and uncorrectable errors, "off" if they are not counted.
func ecc(e *wire.ECC) string {
	count := func(n *uint64) string {
		if n == nil {
			return "?"
		}
		return strconv.FormatUint(*n, 10)
	}
	switch {
	case e == nil:
		return ""
	case !e.Enabled:
		return "off"
	}
	return count(e.Corrected) + "/" + count(e.Uncorrectable)
}

// shortPCI shortens the domain to four digits, as lspci does, if the others are zeros.
func shortPCI(pci string) string {
	if domain, rest, ok := strings.Cut(pci, ":"); ok && len(domain) == 8 && strings.HasPrefix(domain, "0000") {
		return domain[4:] + ":" + rest
	}
	return pci
}

// shortest is the shortest form of a UUID: its kind and eight digits.
const shortest = len("GPU-01234567")

// shortUUIDs returns a function that cuts UUIDs to a length at which each still names one device of
// the list, so that a pool file accepts it as shown. For a GPU without a known UUID it returns the
// PCI bus id.
func shortUUIDs(list []wire.GPUDevice) func(uuid, pci string) string {
	var all []string
	for _, d := range list {
		all = append(all, d.UUID)
		for _, p := range d.Partitions {
			all = append(all, p.UUID)
		}
	}
	return func(uuid, pci string) string {
		if uuid == "" {
			return shortPCI(pci)
		}
		for n := shortest; n < len(uuid); n++ {
			if uuid[n-1] != '-' && count(all, uuid[:n]) == 1 {
				return uuid[:n]
			}
		}
		return uuid
	}
}

func count(all []string, prefix string) int {
	n := 0
	for _, s := range all {
		if strings.HasPrefix(s, prefix) {
			n++
		}
	}
	return n
}

// printer writes until the first error, which it keeps. Its input is untrusted and is cleaned.
type printer struct {
	w     io.Writer
	wrote bool
	err   error
}

func (p *printer) write(s string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.w, s)
		p.wrote = true
	}
}

// line writes one line.
func (p *printer) line(format string, args ...any) {
	p.write(clean(fmt.Sprintf(format, args...)) + "\n")
}

// gap writes an empty line, except at the beginning.
func (p *printer) gap() {
	if p.wrote {
		p.write("\n")
	}
}

// hint writes what to do about the line above, if there is a hint.
func (p *printer) hint(text string) {
	if text != "" {
		p.line("    %s", text)
	}
}

func (p *printer) table(t *table) {
	if p.err == nil {
		p.err, p.wrote = t.print(p.w), true
	}
}

// processes writes a table of those that hold memory of a GPU, by GPU and partition.
func (p *printer) processes(list []wire.GPUDevice) {
	t := &table{}
	t.row("GPU", "PID", "VRAM", "POOL", "REPLICA", "UNIT")
	add := func(place string, list []wire.GPUProcess) {
		for _, of := range list {
			t.row(place, strconv.Itoa(of.PID), gib(of.UsedBytes), of.PoolID, of.ReplicaID, of.Unit)
		}
	}
	for _, d := range list {
		add(strconv.Itoa(d.Index), d.Processes)
		for _, part := range d.Partitions {
			add(fmt.Sprintf("%d gi %d ci %d", d.Index, part.GI, part.CI), part.Processes)
		}
	}
	if len(t.rows) == 1 {
		p.line("No process holds memory of a GPU.")
		return
	}
	p.table(t)
}
