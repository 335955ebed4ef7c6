package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/registry/api/wire"
	"github.com/pool-managerd/pool-managerd/units/devices"
)

// hostGPUs are the GPUs of the host as the daemon reports them.
type hostGPUs struct {
	snapshot *nvml.Snapshot
	health   map[string]string // by the UUID of the physical GPU
	stale    string            // a note that the data is old; empty: it is current
	err      error             // why nothing is known of any GPU; snapshot is nil then
}

// gpusNow asks the daemon for its GPUs. No answer is no failure yet: the need is known without it.
func (a *app) gpusNow(ctx context.Context) hostGPUs {
	c, err := newClient(a.o)
	if err != nil {
		return hostGPUs{err: err}
	}
	list, err := devicesOf(ctx, c)
	if err != nil {
		return hostGPUs{err: err}
	}
	if len(list.Devices) == 0 {
		if list.Driver.LastError != "" {
			return hostGPUs{err: errors.New(list.Driver.LastError)}
		}
		if list.Stale != nil {
			return hostGPUs{err: errors.New(list.Stale.LastError)}
		}
		return hostGPUs{err: errors.New("this host has no GPU")}
	}
	g := hostGPUs{snapshot: &nvml.Snapshot{}, health: make(map[string]string, len(list.Devices))}
	for _, d := range list.Devices {
		g.snapshot.Devices = append(g.snapshot.Devices, deviceOf(d))
		g.health[d.UUID] = d.Health
	}
	if list.Stale != nil {
		g.stale = "The figures of free memory are old: " + list.Stale.LastError
	}
	return g
}

// deviceOf returns the names of a GPU and its memory. The API does not report device files, and a
// mask is resolved only to devices that have some; nothing is opened here.
func deviceOf(d wire.GPUDevice) nvml.Device {
	nodes := []string{"/dev/nvidiactl"}
	out := nvml.Device{UUID: d.UUID, Index: d.Index, PCI: d.PCI, Name: d.Name, ComputeCapability: d.ComputeCapability,
		MIG: d.MIG, Memory: memoryOf(d.VRAM), Nodes: nodes}
	for _, p := range d.Partitions {
		out.Partitions = append(out.Partitions,
			nvml.Partition{UUID: p.UUID, GI: p.GI, CI: p.CI, Profile: p.Profile, Memory: memoryOf(p.VRAM),
				Nodes: nodes})
	}
	return out
}

func memoryOf(v wire.VRAM) *nvml.Memory {
	if v.TotalBytes == nil || v.FreeBytes == nil {
		return nil
	}
	return &nvml.Memory{Total: *v.TotalBytes, Free: *v.FreeBytes}
}

// targets resolves a mask. If no GPU is known, each entry becomes an unknown device of that name.
func (g hostGPUs) targets(mask []string) ([]devices.Target, error) {
	if g.err != nil {
		list := make([]devices.Target, len(mask))
		for i, entry := range mask {
			list[i] = devices.Target{Entry: entry, UUID: entry}
		}
		return list, nil
	}
	list, err := devices.Resolve(mask, g.snapshot)
	var f *registry.Failure
	if errors.As(err, &f) {
		return nil, &exitError{code: exitFailed, text: f.Error(), hint: f.Hint, err: err}
	}
	return list, err
}

// each returns every GPU, or its partitions, one by one; an unknown one if none is known.
func (g hostGPUs) each() ([]devices.Target, error) {
	if g.err != nil {
		return []devices.Target{{UUID: "one GPU"}}, nil
	}
	var mask []string
	for _, d := range g.snapshot.Devices {
		if d.MIG == nil || !*d.MIG {
			mask = append(mask, d.UUID)
			continue
		}
		for _, p := range d.Partitions {
			mask = append(mask, p.UUID)
		}
	}
	var list []devices.Target
	for _, uuid := range mask {
		one, err := g.targets([]string{uuid})
		if err != nil {
			continue // no model fits on a GPU that does not answer
		}
		list = append(list, one...)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no GPU of this host answers; poolctl devices shows why")
	}
	return list, nil
}

// free returns the free memory of a target, nil if unknown.
func (g hostGPUs) free(t devices.Target) *uint64 {
	var m *nvml.Memory
	if p, _, ok := g.snapshot.Partition(t.UUID); ok {
		m = p.Memory
	} else if d, ok := g.snapshot.Device(t.UUID); ok {
		m = d.Memory
	}
	if m == nil {
		return nil
	}
	return &m.Free
}

// unusable returns the health of a GPU that no engine may use, else "".
func (g hostGPUs) unusable(t devices.Target) string {
	switch h := registry.Health(g.health[t.GPU]); h {
	case registry.HealthReset, registry.HealthLost, registry.HealthHost:
		return string(h)
	}
	return ""
}

// deviceName returns a target's name for tables.
func deviceName(t devices.Target) string {
	switch {
	case t.GPU == "" && t.Entry != "":
		return "GPU " + t.Entry
	case t.GPU == "":
		return t.UUID
	case t.MIG:
		return t.UUID
	case t.Name == "":
		return fmt.Sprintf("GPU %d", t.Index)
	}
	return fmt.Sprintf("GPU %d (%s)", t.Index, strings.TrimPrefix(t.Name, "NVIDIA "))
}
