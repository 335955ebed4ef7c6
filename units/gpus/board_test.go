package gpus

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/nvml/health"
	"github.com/pool-managerd/pool-managerd/nvml/nvmltest"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

const gib = uint64(1) << 30

// reported is a board that knows these GPUs.
func told(gpus ...nvml.Device) *Board {
	b := New(noon)
	b.Update(nvml.Update{Snapshot: &nvml.Snapshot{Taken: noon, Session: "s", Driver: nvml.Driver{Version: "550.54.14"},
		Devices: gpus}}, noon)
	return b
}

// using gives a process of a unit memory of a GPU.
func using(d nvml.Device, unit string, pid int, bytes uint64) nvml.Device {
	d.Memory = nvmltest.Memory(d.Memory.Total, d.Memory.Used+bytes)
	d.Processes = append(d.Processes, nvml.Process{PID: pid, Unit: unit, Used: &bytes})
	return d
}

func mask(t *testing.T, b *Board, names ...string) []devices.Target {
	t.Helper()
	targets, err := devices.Resolve(names, b.Snapshot())
	if err != nil {
		t.Fatal(err)
	}
	return targets
}

func TestMoved(t *testing.T) {
	other := nvmltest.GPU(0)
	other.Nodes = []string{"/dev/nvidia7"}
	busy := using(nvmltest.GPU(0), "x.service", 1, gib)
	cases := []struct {
		name  string
		next  []nvml.Device
		moved bool
	}{
		{"nothing_changed", []nvml.Device{nvmltest.GPU(0)}, false},
		{"only_memory_changed", []nvml.Device{busy}, false},
		{"another_node", []nvml.Device{other}, true},
		{"one_more", []nvml.Device{nvmltest.GPU(0), nvmltest.GPU(1)}, true},
		{"lost", []nvml.Device{nvmltest.Lost(nvmltest.GPU(0))}, true},
		{"cut_into_partitions", []nvml.Device{nvmltest.MIG(0, 2)}, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			b := told(nvmltest.GPU(0))
			if _, moved := b.Update(nvml.Update{Snapshot: &nvml.Snapshot{Devices: c.next}}, noon); moved != c.moved {
				t.Errorf("moved = %t", moved)
			}
		})
	}
}

func TestMemory(t *testing.T) {
	unit := pool.Replica{Pool: "a"}.Unit()
	b := told(using(using(nvmltest.GPU(0), unit, 10, 3*gib), "", 11, 2*gib), nvmltest.MIG(1, 2))
	part := nvmltest.PartitionUUID(1, 0)
	if got := b.Used(unit, nvmltest.UUID(0)); got != 3*gib {
		t.Errorf("used %d", got)
	}
	if free, ok := b.Free(nvmltest.UUID(0)); !ok || free != 19*gib {
		t.Errorf("free %d, known=%t", free, ok)
	}
	if free, ok := b.Free(part); !ok || free == 0 {
		t.Errorf("free of a partition %d, known=%t", free, ok)
	}
	cases := []struct {
		name          string
		need          map[string]uint64
		enough, known bool
		short         int
	}{
		{"fits", map[string]uint64{nvmltest.UUID(0): 19 * gib}, true, true, 0},
		{"one_byte_too_much", map[string]uint64{nvmltest.UUID(0): 19*gib + 1}, false, true, 1},
		{"one_of_two_is_short", map[string]uint64{nvmltest.UUID(0): 20 * gib, part: 1}, false, true, 1},
		{"nobody_knows_that_device", map[string]uint64{"GPU-gone": 1}, false, false, 0},
		{"no_need_is_known", nil, true, false, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if enough, known := b.Enough(c.need); enough != c.enough || known != c.known {
				t.Errorf("enough=%t known=%t", enough, known)
			}
			short := b.Short(c.need)
			if len(short) != c.short {
				t.Fatalf("short %+v", short)
			}
			if c.short == 1 && (short[0].Free != 19*gib || len(short[0].Holders) != 2 ||
				short[0].Holders[0].Unit != unit || short[0].Holders[1].PID != 11) {
				t.Errorf("short %+v", short[0])
			}
		})
	}
	t.Run("stale_facts_answer_nothing", func(t *testing.T) {
		b.Update(nvml.Update{Stale: &nvml.Stale{Since: noon, Problem: nvml.Problem{Text: "gone"}}}, noon)
		if _, known := b.Enough(map[string]uint64{nvmltest.UUID(0): 1}); known {
			t.Error("free memory was taken from old facts")
		}
	})
}

func TestBlocked(t *testing.T) {
	b := told(nvmltest.GPU(0), nvmltest.GPU(1))
	first, second := mask(t, b, "0"), mask(t, b, "1")
	out := b.Note(classify.Event(nvml.Event{At: noon, Kind: nvml.EventXid, Device: nvmltest.UUID(0), Code: 95}), "",
		noon)
	if len(out.Changes) != 1 || out.Device != nvmltest.UUID(0) || out.Kind == "" {
		t.Errorf("outcome %+v", out)
	}
	f := b.Blocked(first, noon)
	if f == nil || !strings.Contains(f.Message, "GPU 0") || !strings.Contains(f.Message, "needs a reset") ||
		!strings.HasSuffix(f.Hint, ".") {
		t.Errorf("blocked: %+v", f)
	}
	if f := b.Blocked(second, noon); f != nil {
		t.Errorf("its neighbour is blocked: %v", f)
	}
	b.Update(nvml.Update{Stale: &nvml.Stale{Since: noon, Problem: nvml.Problem{Text: "gone"}}}, noon)
	if f := b.Blocked(second, noon.Add(time.Hour)); f != nil {
		t.Errorf("old facts block: %v", f)
	}
}

// TestBlockedByAnother: an error that concerns the host stops every GPU, and each pool is reported
// which one to look at.
func TestBlockedByAnother(t *testing.T) {
	b := told(nvmltest.GPU(0), nvmltest.GPU(1))
	b.Note(classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(0), Code: 79}), "", noon)
	const own, cause = "GPU 1 (", "fallen off the bus on GPU 0 ("
	got := b.Blocked(mask(t, b, "1"), noon)
	if got == nil || !strings.HasPrefix(got.Message, own) || !strings.Contains(got.Message, cause+nvmltest.UUID(0)) {
		t.Errorf("the other GPU's pool gets %v", got)
	}
	if got := b.Blocked(mask(t, b, "0"), noon); got == nil || strings.Contains(got.Message, " on GPU ") {
		t.Errorf("the pool of the GPU itself gets %v", got)
	}
}

func TestNote(t *testing.T) {
	unit := pool.Replica{Pool: "a"}.Unit()
	engine := func(line string) classify.Verdict {
		v, ok := classify.EngineLog(line)
		if !ok {
			t.Fatalf("%q has no verdict", line)
		}
		return v
	}
	t.Run("an_engines_line_is_its_own_fault", func(t *testing.T) {
		out := told(nvmltest.GPU(0)).Note(engine("CUDA error: an illegal memory access was encountered"), unit, noon)
		if out.Fault == nil || out.Fault.Unit != unit || !out.Fault.Fatal ||
			out.Fault.Failure.Code != registry.CodeCUDAError || len(out.Changes) != 0 {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("out_of_memory_explains_and_ends_nothing", func(t *testing.T) {
		out := told(nvmltest.GPU(0)).Note(engine("cudaMalloc failed: out of memory"), unit, noon)
		if out.Fault == nil || out.Fault.Fatal || out.Fault.Failure.Code != registry.CodeCUDAOOM {
			t.Errorf("outcome %+v", out)
		}
	})
	t.Run("the_kernels_line_names_the_process_of_an_event", func(t *testing.T) {
		event := classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(0), Code: 31})
		for name, c := range map[string]struct {
			first, second classify.Verdict
			pause         time.Duration
			found         bool
		}{
			"line_then_event":  {xid31(t, 0), event, time.Second, true},
			"event_then_line":  {event, xid31(t, 0), time.Second, true},
			"line_twice":       {xid31(t, 0), xid31(t, 0), time.Second, false},
			"event_far_later":  {xid31(t, 0), event, 11 * time.Second, false},
			"line_far_later":   {event, xid31(t, 0), 11 * time.Second, false},
			"of_another_gpu":   {xid31(t, 1), event, time.Second, false},
			"of_another_fault": {xid31(t, 0), classify.Event(nvml.Event{Kind: nvml.EventXid, Device: nvmltest.UUID(0), Code: 13}), time.Second, false},
			"no_xid":           {xid31(t, 0), classify.Event(nvml.Event{Kind: nvml.EventMissed, Device: nvmltest.UUID(0)}), time.Second, false},
		} {
			t.Run(name, func(t *testing.T) {
				b := told(using(nvmltest.GPU(0), unit, 4711, gib), nvmltest.GPU(1))
				if out := b.Note(c.first, "", noon); out.Fault != nil {
					t.Errorf("one report alone is held against a process: %+v", out.Fault)
				}
				out := b.Note(c.second, "", noon.Add(c.pause))
				if (out.Fault != nil) != c.found {
					t.Fatalf("fault %+v, want one: %t", out.Fault, c.found)
				}
				if f := out.Fault; c.found && (f.PID != 4711 || f.Device != nvmltest.UUID(0) || !f.Fatal ||
					b.Unit(4711) != unit || !strings.Contains(f.Failure.Message, "GPU 0")) {
					t.Errorf("fault %+v, unit %q", f, b.Unit(4711))
				}
			})
		}
	})
	t.Run("lines_without_end", func(t *testing.T) {
		b := told(nvmltest.GPU(0))
		for i := range 10_000 {
			b.Note(lineOf(t, 0, i, 1), "", noon)
		}
		if n := len(b.proven.lines); n > mostProven {
			t.Errorf("%d lines are kept", n)
		}
	})
	t.Run("a_line_counts_where_nvml_does_not_answer", func(t *testing.T) {
		b := told(nvmltest.GPU(0))
		out := b.Note(lineOf(t, 0, 119, 1), "", noon)
		if !out.Asks || out.Kind != "" || len(out.Changes) != 0 || !b.Asks() {
			t.Errorf("outcome %+v", out)
		}
		if changes := b.Overdue(noon.Add(time.Minute)); len(changes) != 1 || b.Blocked(mask(t, b, "0"), noon) == nil {
			t.Errorf("changes %+v", changes)
		}
		if got := b.Answers(); len(got) != 1 || got[0].Kind != "xid" || got[0].Device != nvmltest.UUID(0) || b.Asks() {
			t.Errorf("answers %+v", got)
		}
	})
	t.Run("a_line_is_ignored_where_nvml_answers", func(t *testing.T) {
		b := told(nvmltest.GPU(0))
		b.Note(lineOf(t, 0, 79, 1), "", noon)
		for i := range 6 {
			at := noon.Add(time.Duration(i+1) * time.Second)
			b.Asked(&nvml.Snapshot{Taken: at, Devices: []nvml.Device{nvmltest.GPU(0)}}, at)
		}
		if got := b.Answers(); len(got) != 1 || got[0].Kind != "" || got[0].Answer != health.Denied || b.Asks() ||
			b.Blocked(mask(t, b, "0"), noon) != nil {
			t.Errorf("answers %+v", got)
		}
	})
	t.Run("told_twice_is_counted_once", func(t *testing.T) {
		b := told(nvmltest.GPU(0))
		v := classify.Event(nvml.Event{At: noon, Kind: nvml.EventXid, Device: nvmltest.UUID(0), Code: 119})
		if first := b.Note(v, "", noon); first.Kind == "" {
			t.Error("not counted")
		}
		place := strings.TrimSuffix(b.Snapshot().Devices[0].PCI[4:], ".0")
		again, _ := classify.Kernel("NVRM: Xid (PCI:" + place + "): 119, pid=1, name=x, Timeout")
		if second := b.Note(again, "", noon.Add(time.Second)); second.Kind != "" {
			t.Error("counted twice")
		}
	})
}

// lineOf is a line of the kernel's log about an Xid on a GPU by its number, which names a process.
func lineOf(t *testing.T, index, xid, pid int) classify.Verdict {
	t.Helper()
	place := strings.TrimSuffix(nvmltest.GPU(index).PCI[4:], ".0")
	v, ok := classify.Kernel(fmt.Sprintf("NVRM: Xid (PCI:%s): %d, pid=%d, name=x, y", place, xid, pid))
	if !ok {
		t.Fatal("no verdict")
	}
	return v
}

func xid31(t *testing.T, index int) classify.Verdict { return lineOf(t, index, 31, 4711) }

func TestShow(t *testing.T) {
	unit := pool.Replica{Pool: "a", Index: 1}.Unit()
	b := told(using(nvmltest.GPU(0), unit, 10, gib), nvmltest.MIG(1, 2))
	users := make(Users)
	users.Add("z", mask(t, b, "0"))
	users.Add("a", mask(t, b, "0"))
	users.Add("a", mask(t, b, nvmltest.PartitionUUID(1, 1)))
	d := b.Show(users, noon)
	if d.Stale != nil || d.Driver.Version != "550.54.14" || len(d.Devices) != 2 {
		t.Fatalf("devices %+v", d)
	}
	whole, cut := d.Devices[0], d.Devices[1]
	if strings.Join(whole.Pools, " ") != "a z" || whole.Processes[0].Pool != "a" ||
		whole.Processes[0].Replica != "r1" || whole.Health != registry.HealthOK {
		t.Errorf("whole GPU %+v", whole)
	}
	if strings.Join(cut.Pools, " ") != "a" || len(cut.Partitions[0].Pools) != 0 ||
		strings.Join(cut.Partitions[1].Pools, " ") != "a" {
		t.Errorf("cut GPU %+v", cut)
	}
	p := b.PoolDevices(mask(t, b, "0"), noon)
	if len(p) != 1 || p[0].ID != "0" || p[0].UUID != nvmltest.UUID(0) || p[0].Memory.Free != 23*gib {
		t.Errorf("pool's device %+v", p)
	}
	t.Run("nothing_known", func(t *testing.T) {
		b := New(noon)
		b.Update(nvml.Update{Stale: &nvml.Stale{Since: noon,
			Problem: nvml.Problem{Text: "pool-gpu has not answered yet"}}}, noon)
		if d := b.Show(nil, noon); d.Stale == nil || len(d.Devices) != 0 || !d.Taken.IsZero() {
			t.Errorf("devices %+v", d)
		}
	})
}
