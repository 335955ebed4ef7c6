package registry

import (
	"slices"
	"time"
)

// MaxFactsAge is the greatest age of facts about GPUs. When they are older, free and used memory
// and utilisation are not reported, and a GPU without a fault is HealthUnknown: a figure repeated
// while the driver hangs would show an idle GPU. It is longer than any sampling interval and than a
// restart of the helper.
const MaxFactsAge = 30 * time.Second

// Old reports whether the facts are older than MaxFactsAge.
func (d *Devices) Old(now time.Time) bool { return now.Sub(d.Taken) > MaxFactsAge }

// At returns the GPUs as known at a moment. Ageing facts cause no write, so readers call it.
func (d *Devices) At(now time.Time) Devices {
	out := *d
	if !d.Old(now) {
		return out
	}
	out.Devices = slices.Clone(d.Devices)
	for i := range out.Devices {
		if g := &out.Devices[i]; g.Health == HealthOK {
			g.Health, g.Since = HealthUnknown, d.Taken
		}
	}
	return out
}

// memory returns the newest memory of a GPU or partition; ok is false where it is not listed.
func (d *Devices) memory(uuid string) (m *VRAM, ok bool) {
	for i := range d.Devices {
		g := &d.Devices[i]
		if g.UUID == uuid {
			return g.Memory, true
		}
		for j := range g.Partitions {
			if g.Partitions[j].UUID == uuid {
				return g.Partitions[j].Memory, true
			}
		}
	}
	return nil, false
}

// At returns the snapshot as shown at a moment: pools have the newest memory of their devices, and
// facts that are too old are marked.
func (s *Snapshot) At(now time.Time) *Snapshot {
	out := *s
	out.Devices = s.Devices.At(now)
	out.Pools = slices.Clone(s.Pools)
	for i, p := range out.Pools {
		out.Pools[i] = s.Devices.PoolAt(p, now)
	}
	return &out
}

// PoolAt returns one pool as shown at a moment; ok is false if there is no such pool.
func (r *Registry) PoolAt(id string, now time.Time) (p *Pool, ok bool) {
	if p, ok = r.Find(id); !ok {
		return nil, false
	}
	return r.Devices().PoolAt(p, now), true
}

// PoolAt returns a pool with the newest memory of its devices, as shown at a moment.
func (d *Devices) PoolAt(p *Pool, now time.Time) *Pool {
	if len(p.Devices) == 0 {
		return p
	}
	out := *p
	out.Devices = slices.Clone(p.Devices)
	old := d.Old(now)
	for i := range out.Devices {
		g := &out.Devices[i]
		if m, listed := d.memory(g.UUID); listed && m != nil {
			g.Memory = m
		}
		if g.Old = old; old && g.Health == HealthOK {
			g.Health = HealthUnknown
		}
	}
	return &out
}
