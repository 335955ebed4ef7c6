package serve

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
)

// lists makes the driver list the processes of a GPU.
func lists(d nvml.Device) nvml.Device {
	d.Listed = true
	return d
}

func TestHeld(t *testing.T) {
	lives := func(pid int) bool { return pid > 0 && pid < 1000 }
	with := func(d nvml.Device, change func(*nvml.Device)) nvml.Device {
		change(&d)
		return d
	}
	partition := func(gi int, listed bool, processes ...nvml.Process) nvml.Partition {
		return nvml.Partition{UUID: "M" + string(rune('0'+gi)), GI: gi, Listed: listed, Processes: processes}
	}
	noUse := nvml.Process{PID: 8, Unit: "b"}
	for _, c := range []struct {
		name     string
		snapshot *nvml.Snapshot
		device   string
		want     wire.Held
	}{
		{"its_process", snapshot(lists(gpu("G0", holds(7, "a", gib)))), "G0", wire.Held{Processes: 1, Used: new(gib)}},
		{"several_processes", snapshot(lists(gpu("G0", holds(7, "a", gib), holds(8, "a", 2*gib), holds(9, "b", gib)))), "G0",
			wire.Held{Processes: 2, Used: new(3 * gib)}},
		{"whose_use_is_unknown", snapshot(lists(gpu("G0", nvml.Process{PID: 7, Unit: "a"}))), "G0", wire.Held{Processes: 1}},
		{"none_of_it", snapshot(lists(gpu("G0", holds(7, "b", gib)))), "G0", wire.Held{}},
		{"an_idle_device", snapshot(lists(gpu("G0"))), "G0", wire.Held{}},
		{"the_drivers_own_share", snapshot(with(lists(gpu("G0")), func(d *nvml.Device) { d.Memory.Used = 9 << 20 })), "G0", wire.Held{}},
		{"no_list", snapshot(gpu("G0")), "G0", wire.Held{Unknown: "the driver does not list the processes of this device"}},
		{"its_process_counts_without_the_list_of_all", snapshot(gpu("G0", holds(7, "a", gib))), "G0", wire.Held{Processes: 1, Used: new(gib)}},
		{"another_namespace", snapshot(lists(gpu("G0", holds(70000, "", gib)))), "G0",
			wire.Held{Unknown: "process 70000, which holds memory there, does not exist in this PID namespace"}},
		{"no_number", snapshot(lists(gpu("G0", holds(0, "", gib)))), "G0",
			wire.Held{Unknown: "process 0, which holds memory there, does not exist in this PID namespace"}},
		{"memory_of_no_one", snapshot(with(lists(gpu("G0", holds(8, "b", gib))), func(d *nvml.Device) { d.Memory.Used += 32 << 20 })), "G0",
			wire.Held{Unknown: "32 MiB are in use there beyond what the listed processes hold"}},
		{"memory_of_another_whose_use_is_unknown", snapshot(with(lists(gpu("G0", noUse)), func(d *nvml.Device) { d.Memory.Used = gib })), "G0", wire.Held{}},
		{"memory_is_unknown", snapshot(with(lists(gpu("G0")), func(d *nvml.Device) { d.Memory = nil })), "G0", wire.Held{}},
		{"lost", snapshot(with(gpu("G0"), func(d *nvml.Device) { d.Problem = &nvml.Problem{Text: "lost"} })), "G0",
			wire.Held{Unknown: "the GPU does not answer: lost"}},
		{"absent", snapshot(lists(gpu("G0"))), "G9", wire.Held{Unknown: "NVML reports no device G9"}},
		{"no_driver", &nvml.Snapshot{Driver: nvml.Driver{Problem: &nvml.Problem{Text: "not loaded"}}}, "G0",
			wire.Held{Unknown: "the NVIDIA driver reports no data: not loaded"}},
		{"partition", snapshot(with(lists(gpu("G0")), func(d *nvml.Device) {
			d.Partitions = []nvml.Partition{partition(1, true, holds(7, "a", gib)), partition(2, true)}
		})), "M1", wire.Held{Processes: 1, Used: new(gib)}},
		{"another_partition", snapshot(with(lists(gpu("G0")), func(d *nvml.Device) {
			d.Partitions = []nvml.Partition{partition(1, true, holds(7, "a", gib)), partition(2, true)}
		})), "M2", wire.Held{}},
		{"partition_without_list", snapshot(with(lists(gpu("G0")), func(d *nvml.Device) {
			d.Partitions = []nvml.Partition{partition(1, false)}
		})), "M1", wire.Held{Unknown: "the driver does not list the processes of this device"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.want.Device = c.device
			got := held(c.snapshot, "a", []string{c.device}, lives)
			if diff := cmp.Diff([]wire.Held{c.want}, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

// TestHeldIsAsked: the answer is about the unit of the caller, whatever it names, from a new
// sample, also where the driver is unavailable.
func TestHeldIsAsked(t *testing.T) {
	inBubble(t, "own_unit", func(t *testing.T) {
		f := newFake(t, lists(gpu("G0", holds(7, "a", gib))), lists(gpu("G1")))
		h := start(t, f)
		h.group = unit("a")
		r := h.ask(wire.Request{Op: wire.OpHeld, Devices: []string{"G1", "G0"}, Unit: "b"})
		if len(r.Held) != 2 || r.Held[0].Processes != 0 || r.Held[1].Processes != 1 || r.Held[0].Unknown != "" {
			t.Errorf("%+v", r)
		}
		f.set(func() { f.devices[1].Processes = []nvml.Process{holds(8, "a", gib)} })
		if r := h.ask(wire.Request{Op: wire.OpHeld, Devices: []string{"G1"}}); r.Held[0].Processes != 1 {
			t.Errorf("a moment later: %+v", r)
		}
		h.end()
	})
	inBubble(t, "no_driver", func(t *testing.T) {
		f := newFake(t)
		f.opening = &nvml.Problem{Kind: nvml.ProblemNoDriver, Text: "not loaded"}
		h := start(t, f)
		h.group = unit("a")
		r := h.ask(wire.Request{Op: wire.OpHeld, Devices: []string{"G0"}})
		if len(r.Held) != 1 || r.Held[0].Unknown == "" {
			t.Errorf("%+v", r)
		}
		h.end()
	})
}
