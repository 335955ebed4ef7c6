package registry

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// render returns a pool's devices as "UUID free/total health", with "old" where the free memory
// must not be reported.
func render(p *Pool) string {
	var out []string
	for _, d := range p.Devices {
		text := d.UUID + " ?"
		if d.Memory != nil {
			text = fmt.Sprintf("%s %d/%d", d.UUID, d.Memory.Free, d.Memory.Total)
		}
		if text += " " + string(d.Health); d.Old {
			text += " old"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

// TestSnapshotAt: a pool's devices are never older than the facts about them.
func TestSnapshotAt(t *testing.T) {
	taken := time.UnixMilli(1_700_000_000_000)
	written := []PoolDevice{
		{ID: "0", UUID: "GPU-0", Memory: &VRAM{Total: 10, Free: 9}, Health: HealthOK},
		{ID: "1", UUID: "GPU-1", Memory: &VRAM{Total: 20, Free: 19}, Health: HealthDegraded},
		{ID: "MIG-2", UUID: "MIG-2", Memory: &VRAM{Total: 5, Free: 5}, Health: HealthOK},
	}
	facts := Devices{Taken: taken, Devices: []Device{
		{UUID: "GPU-0", Health: HealthOK, Memory: &VRAM{Total: 10, Free: 1}, Since: taken.Add(-time.Hour)},
		{UUID: "GPU-1", Health: HealthDegraded, Memory: &VRAM{Total: 20, Free: 2}},
		{UUID: "GPU-2", Health: HealthOK, Partitions: []Partition{{UUID: "MIG-2", Memory: &VRAM{Total: 5, Free: 3}}}},
	}}
	for _, c := range []struct {
		name string
		age  time.Duration
		in   Devices
		want string
	}{
		{"the_newest_memory", 0, facts, "GPU-0 1/10 healthy, GPU-1 2/20 degraded, MIG-2 3/5 healthy"},
		{"as_old_as_it_may_be", MaxFactsAge, facts, "GPU-0 1/10 healthy, GPU-1 2/20 degraded, MIG-2 3/5 healthy"},
		{"too_old", MaxFactsAge + 1, facts, "GPU-0 1/10 unknown old, GPU-1 2/20 degraded old, MIG-2 3/5 unknown old"},
		{"no_longer_listed", 0, Devices{Taken: taken}, "GPU-0 9/10 healthy, GPU-1 19/20 degraded, MIG-2 5/5 healthy"},
		{"never_any_facts", 0, Devices{}, "GPU-0 9/10 unknown old, GPU-1 19/20 degraded old, MIG-2 5/5 unknown old"},
		{"memory_is_no_longer_reported", 0, Devices{Taken: taken, Devices: []Device{{UUID: "GPU-0"}}}, "GPU-0 9/10 healthy, GPU-1 19/20 degraded, MIG-2 5/5 healthy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := New()
			r.Put(Pool{ID: "a", Devices: written})
			r.Put(Pool{ID: "cpu"})
			r.SetDevices(c.in)
			now := taken.Add(c.age)
			all := r.Snapshot().At(now)
			one, ok := r.PoolAt("a", now)
			if !ok || render(one) != c.want || render(all.Pools[0]) != c.want {
				t.Errorf("alone %s\nof all %s\nwant   %s", render(one), render(all.Pools[0]), c.want)
			}
			if was, _ := r.Snapshot().Pool("a"); was.Devices[0].Old || was.Devices[0].Health != HealthOK ||
				was.Devices[0].Memory.Free != 9 {
				t.Error("the snapshot itself was changed")
			}
			if cpu, _ := all.Pool("cpu"); cpu != r.Snapshot().Pools[1] {
				t.Error("a pool without devices was copied")
			}
		})
	}
	t.Run("no_such_pool", func(t *testing.T) {
		if p, ok := New().PoolAt("nobody", taken); ok || p != nil {
			t.Errorf("%v", p)
		}
	})
	t.Run("devices", func(t *testing.T) {
		d := facts.At(taken.Add(time.Minute))
		if g := d.Devices[0]; g.Health != HealthUnknown || !g.Since.Equal(taken) ||
			facts.Devices[0].Health != HealthOK {
			t.Errorf("%s since %s; before %s", g.Health, g.Since, facts.Devices[0].Health)
		}
		if d.Devices[1].Health != HealthDegraded {
			t.Error("what is held against a GPU was forgotten")
		}
	})
}
