package serve

import (
	"math"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/nvml/owner"
	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

const gib = uint64(1) << 30

// gpu is a GPU of 24 GiB with what processes hold, and free of that.
func gpu(uuid string, processes ...nvml.Process) nvml.Device {
	used := uint64(0)
	for _, p := range processes {
		if p.Used != nil {
			used += *p.Used
		}
	}
	return nvml.Device{UUID: uuid, Memory: &nvml.Memory{Total: 24 * gib, Free: 24*gib - used, Used: used},
		Processes: processes}
}

func holds(pid int, unit string, bytes uint64) nvml.Process {
	return nvml.Process{PID: pid, Unit: unit, Used: &bytes}
}

func snapshot(devices ...nvml.Device) *nvml.Snapshot {
	for i := range devices {
		devices[i].Index = i
	}
	return &nvml.Snapshot{Devices: devices}
}

func unit(name string) owner.Group { return owner.Group{Unit: name, Path: "/" + name, Engine: true} }

func TestReserve(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name     string
		reserved map[string]map[string]uint64 // to other units, before
		snapshot *nvml.Snapshot
		needs    map[string]uint64
		want     []wire.Short
	}{
		{"enough", nil, snapshot(gpu("G0")), map[string]uint64{"G0": 24 * gib}, nil},
		{"a_byte_too_much", nil, snapshot(gpu("G0")), map[string]uint64{"G0": 24*gib + 1},
			[]wire.Short{{Device: "G0", Need: 24*gib + 1, Free: 24 * gib, Total: 24 * gib}}},
		{"reserved_to_another", map[string]map[string]uint64{"b": {"G0": 20 * gib}}, snapshot(gpu("G0")), map[string]uint64{"G0": 5 * gib},
			[]wire.Short{{Device: "G0", Need: 5 * gib, Free: 24 * gib, Reserved: 20 * gib, Total: 24 * gib,
				Holders: []wire.Holder{{Unit: "b", Reserved: 20 * gib}}}}},
		{"another_holds_its_part_already", map[string]map[string]uint64{"b": {"G0": 20 * gib}},
			snapshot(gpu("G0", holds(7, "b", 15*gib))), map[string]uint64{"G0": 5 * gib},
			[]wire.Short{{Device: "G0", Need: 5 * gib, Free: 9 * gib, Reserved: 5 * gib, Total: 24 * gib,
				Holders: []wire.Holder{{Unit: "b", PID: 7, Used: 15 * gib, Reserved: 5 * gib}}}}},
		{"another_holds_more_than_reserved", map[string]map[string]uint64{"b": {"G0": 10 * gib}},
			snapshot(gpu("G0", holds(7, "b", 15*gib))), map[string]uint64{"G0": 9 * gib}, nil},
		{"reservation_on_another_device", map[string]map[string]uint64{"b": {"G1": 24 * gib}},
			snapshot(gpu("G0"), gpu("G1")), map[string]uint64{"G0": 24 * gib}, nil},
		{"one_of_two_is_short", nil, snapshot(gpu("G0"), gpu("G1", holds(9, "", 20*gib))), map[string]uint64{"G0": 5 * gib, "G1": 5 * gib},
			[]wire.Short{{Device: "G1", Need: 5 * gib, Free: 4 * gib, Total: 24 * gib, Holders: []wire.Holder{{PID: 9, Used: 20 * gib}}}}},
		{"own_reservation_does_not_count", map[string]map[string]uint64{"a": {"G0": 20 * gib}}, snapshot(gpu("G0")), map[string]uint64{"G0": 20 * gib}, nil},
		{"reservations_beyond_all_memory", map[string]map[string]uint64{"b": {"G0": math.MaxUint64}, "c": {"G0": math.MaxUint64}},
			snapshot(gpu("G0")), map[string]uint64{"G0": 1},
			[]wire.Short{{Device: "G0", Need: 1, Free: 24 * gib, Reserved: math.MaxUint64, Total: 24 * gib,
				Holders: []wire.Holder{{Unit: "b", Reserved: math.MaxUint64}, {Unit: "c", Reserved: math.MaxUint64}}}}},
		{"memory_is_not_told", nil, snapshot(nvml.Device{UUID: "G0"}), map[string]uint64{"G0": 24 * gib}, nil},
		{"process_that_tells_nothing", map[string]map[string]uint64{"b": {"G0": 20 * gib}},
			snapshot(gpu("G0", nvml.Process{PID: 7, Unit: "b"})), map[string]uint64{"G0": 5 * gib},
			[]wire.Short{{Device: "G0", Need: 5 * gib, Free: 24 * gib, Reserved: 20 * gib, Total: 24 * gib,
				Holders: []wire.Holder{{Unit: "b", PID: 7, Reserved: 20 * gib}}}}},
		{"two_processes_of_a_unit_are_one_holder", nil, snapshot(gpu("G0", holds(7, "b", 10*gib), holds(8, "b", 10*gib), holds(9, "c", 2*gib))),
			map[string]uint64{"G0": 5 * gib},
			[]wire.Short{{Device: "G0", Need: 5 * gib, Free: 2 * gib, Total: 24 * gib,
				Holders: []wire.Holder{{Unit: "b", Used: 20 * gib}, {Unit: "c", PID: 9, Used: 2 * gib}}}}},
		{"partition_counts_against_its_gpu", map[string]map[string]uint64{"b": {"M0": 10 * gib}},
			partitioned(), map[string]uint64{"G0": 20 * gib},
			[]wire.Short{{Device: "G0", Need: 20 * gib, Free: 24 * gib, Reserved: 6 * gib, Total: 24 * gib, Holders: []wire.Holder{{Unit: "b", Reserved: 6 * gib}}}}},
		{"partition_next_to_a_reserved_one", map[string]map[string]uint64{"b": {"M0": 10 * gib}}, partitioned(), map[string]uint64{"M1": 12 * gib}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger()
			for u, needs := range c.reserved {
				l.reservations[u] = reservation{needs: needs, group: unit(u), given: start}
			}
			got := l.reserve(unit("a"), c.needs, c.snapshot, start)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
			if _, given := l.reservations["a"]; given != (len(got) == 0) {
				t.Errorf("reserved %v, though %d devices are short", given, len(got))
			}
		})
	}
}

// partitioned is a GPU of two partitions, the first of which is partly taken by unit b.
func partitioned() *nvml.Snapshot {
	d := gpu("G0")
	d.Partitions = []nvml.Partition{
		{UUID: "M0", Memory: &nvml.Memory{Total: 12 * gib, Free: 8 * gib, Used: 4 * gib}, Processes: []nvml.Process{holds(7, "b", 4*gib)}},
		{UUID: "M1", GI: 1, Memory: &nvml.Memory{Total: 12 * gib, Free: 12 * gib}},
	}
	return snapshot(d)
}

func TestReserveAgain(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	s := snapshot(gpu("G0"))
	t.Run("two_cannot_have_the_last", func(t *testing.T) {
		l := newLedger()
		if short := l.reserve(unit("a"), map[string]uint64{"G0": 13 * gib}, s, now); short != nil {
			t.Fatalf("the first is short: %v", short)
		}
		if short := l.reserve(unit("b"), map[string]uint64{"G0": 13 * gib}, s, now); len(short) != 1 {
			t.Fatalf("the second got the same memory")
		}
		l.release("a")
		l.release("a") // again, without effect
		if short := l.reserve(unit("b"), map[string]uint64{"G0": 13 * gib}, s, now); short != nil {
			t.Fatalf("released, and still short: %v", short)
		}
	})
	t.Run("refusal_ends_the_former_reservation", func(t *testing.T) {
		l := newLedger()
		l.reserve(unit("a"), map[string]uint64{"G0": 20 * gib}, s, now)
		if short := l.reserve(unit("a"), map[string]uint64{"G0": 25 * gib}, s, now); len(short) != 1 {
			t.Fatal("more than there is was reserved")
		}
		if short := l.reserve(unit("b"), map[string]uint64{"G0": 24 * gib}, s, now); short != nil {
			t.Errorf("the start that was refused still holds: %v", short)
		}
	})
	t.Run("callers_map_is_not_kept", func(t *testing.T) {
		l := newLedger()
		needs := map[string]uint64{"G0": 20 * gib}
		l.reserve(unit("a"), needs, s, now)
		needs["G0"] = 0
		if short := l.reserve(unit("b"), map[string]uint64{"G0": 20 * gib}, s, now); len(short) != 1 {
			t.Error("the reservation changed with the map of its caller")
		}
	})
}

func TestExpire(t *testing.T) {
	start := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name      string
		populated func(after time.Duration) bool
		ends      time.Duration // by sweeps of a second; 0: not within two hours
	}{
		{"no_process_for_ten_seconds", func(time.Duration) bool { return false }, emptyFor},
		{"process_comes_in_time", func(after time.Duration) bool { return after > 8*time.Second }, reservationLife},
		{"processes_with_gaps", func(after time.Duration) bool { return after%(9*time.Second) == 0 }, reservationLife},
		{"dies_later", func(after time.Duration) bool { return after < time.Minute }, time.Minute + emptyFor},
		{"never_released", func(time.Duration) bool { return true }, reservationLife},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLedger()
			l.reserve(unit("a"), map[string]uint64{"G0": gib}, snapshot(gpu("G0")), start)
			for after := time.Duration(0); after <= 2*time.Hour; after += time.Second {
				ended := l.expire(start.Add(after), func(owner.Group) bool { return c.populated(after) })
				if len(ended) > 0 {
					if after != c.ends {
						t.Errorf("ended after %v, want %v", after, c.ends)
					}
					return
				}
			}
			t.Error("never ended")
		})
	}
}

// FuzzLedger plays any order of reserves, releases and loads on one GPU, and holds what the ledger
// is for: what was reserved and is not held yet always fits into what is free, as long as no one
// takes memory without a reservation.
func FuzzLedger(f *testing.F) {
	f.Add([]byte{0, 1, 200, 1, 1, 100, 2, 1, 0, 0, 2, 90})
	f.Fuzz(mutate.Many(func(t *testing.T, steps []byte) {
		const total = 255
		l := newLedger()
		now := time.Unix(1_700_000_000, 0)
		used := make(map[string]uint64)
		for ; len(steps) >= 3; steps = steps[3:] {
			u := string(rune('a' + steps[1]%4))
			n := uint64(steps[2])
			switch steps[0] % 4 {
			case 0:
				used[u] = 0 // a start begins after the former process has ended
				s := stateOf(used, total)
				free := s.Devices[0].Memory.Free
				_, sum := l.outstanding(u, mustMemory(t, s))
				short := l.reserve(unit(u), map[string]uint64{"G0": n}, s, now)
				if granted := len(short) == 0; granted != (n+sum <= free) {
					t.Fatalf("need %d, free %d, reserved by others %d: granted %v", n, free, sum, granted)
				}
			case 1: // it loads up to what was reserved
				if p, ok := l.reservations[u]; ok {
					used[u] = min(n, p.needs["G0"])
				}
			case 2:
				if p, ok := l.reservations[u]; ok {
					used[u] = p.needs["G0"]
				}
				l.release(u)
				before := len(l.reservations)
				l.release(u)
				if len(l.reservations) != before {
					t.Fatal("a second release changed something")
				}
			case 3:
				l.expire(now, func(owner.Group) bool { return true })
			}
			s := stateOf(used, total)
			_, sum := l.outstanding("", mustMemory(t, s))
			if free := s.Devices[0].Memory.Free; sum > free {
				t.Fatalf("%d are reserved and not held, and %d are free", sum, free)
			}
		}
	}))
}

func mustMemory(t *testing.T, s *nvml.Snapshot) deviceMemory {
	t.Helper()
	h, ok := memoryOf(s, "G0")
	if !ok {
		t.Fatal("no G0")
	}
	return h
}

func stateOf(used map[string]uint64, total uint64) *nvml.Snapshot {
	d := nvml.Device{UUID: "G0", Memory: &nvml.Memory{Total: total, Free: total}}
	pid := 0
	for u, n := range used {
		pid++
		d.Processes = append(d.Processes, nvml.Process{PID: pid, Unit: u, Used: &n})
		d.Memory.Free -= n
	}
	return snapshot(d)
}
