package memory

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml/classify"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/engine"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// TestRaise checks what the end of a load says of the next need.
func TestRaise(t *testing.T) {
	failed := func(device int, bytes, inUse uint64) *classify.Allocation {
		return &classify.Allocation{Device: device, Bytes: bytes, InUse: inUse}
	}
	cases := []struct {
		name   string
		known  []uint64 // need of each device; nil: unknown
		seen   []DeviceUse
		failed *classify.Allocation
		want   []uint64 // nil: not raised
	}{
		{"used_and_the_allocation", []uint64{5 * gib}, []DeviceUse{{Used: 5 * gib, Room: 6 * gib}}, failed(0, 2*gib, 0), []uint64{7 * gib}},
		{"the_room_was_not_enough_whatever_was_seen", []uint64{5 * gib}, []DeviceUse{{Used: gib, Room: 6 * gib}}, failed(0, gib, 0),
			[]uint64{6*gib + finest}},
		{"another_process_took_the_room", []uint64{5 * gib}, []DeviceUse{{Used: 2 * gib, Room: 3 * gib}}, failed(0, 2*gib, 0), nil},
		{"its_own_account", []uint64{5 * gib}, []DeviceUse{{Used: gib, Room: 3 * gib}}, failed(0, gib, 6*gib), []uint64{7 * gib}},
		{"it_ended_before_it_was_seen", []uint64{5 * gib}, nil, failed(0, gib, 0), []uint64{6 * gib}},
		{"nothing_is_named_and_more_was_seen", []uint64{5 * gib}, []DeviceUse{{Used: 6 * gib}}, nil, []uint64{6 * gib}},
		{"nothing_is_named_and_less_was_seen", []uint64{5 * gib}, []DeviceUse{{Used: 4 * gib, Room: 9 * gib}}, nil, nil},
		{"the_need_was_unknown", nil, []DeviceUse{{Used: 4 * gib, Room: 5 * gib}}, failed(0, 2*gib, 0), []uint64{6 * gib}},
		{"never_above_what_the_device_has", []uint64{5 * gib}, []DeviceUse{{Used: 5 * gib, Most: 23 * gib}}, failed(0, 1<<43, 0), []uint64{23 * gib}},
		{"nor_where_the_driver_does_not_report_it", []uint64{5 * gib}, nil, failed(0, 1<<43, 0), []uint64{24 * gib}},
		{"a_need_above_the_device_stays", []uint64{30 * gib}, nil, failed(0, gib, 0), nil},
		{"the_device_that_is_named", []uint64{5 * gib, 5 * gib}, []DeviceUse{{Used: 4 * gib}, {Used: 5 * gib}}, failed(1, gib, 0),
			[]uint64{5 * gib, 6 * gib}},
		{"no_device_is_named_of_two", []uint64{5 * gib, 5 * gib}, []DeviceUse{{Used: 4 * gib}, {Used: 5 * gib}}, failed(-1, gib, 0), nil},
		{"a_device_that_it_was_not_given", []uint64{5 * gib}, []DeviceUse{{Used: 4 * gib}}, failed(7, gib, 0), nil},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			totals := slices.Repeat([]uint64{24 * gib}, max(len(c.known), 1))
			end := End{Run: "r", Code: registry.CodeCUDAOOM, Targets: gpus(totals...), Seen: c.seen, Failed: c.failed}
			if c.known != nil {
				end.Need = onDevices(Estimated, end.Targets, c.known)
			}
			got, ok := end.Raise()
			if ok != (c.want != nil) || !slices.Equal(got.Devices, c.want) || got.Host != 0 {
				t.Errorf("= %+v, %t; want %v", got, ok, c.want)
			}
		})
	}
	t.Run("killed_at_memory_max", func(t *testing.T) {
		got, ok := End{Code: registry.CodeEngineOOM, Need: Need{Host: gib}, MemoryMax: 4 * gib}.Raise()
		if !ok || got.Host != 4*gib || got.Devices != nil {
			t.Errorf("= %+v, %t", got, ok)
		}
	})
	for _, c := range []struct {
		name             string
		known, room, was uint64 // was 0: not raised
	}{
		{"killed_without_a_limit", 4 * gib, 8 * gib, 8*gib + 8*gib/hostStep},
		{"killed_without_a_limit_and_nothing_was_known", 0, 8 * gib, 8*gib + 8*gib/hostStep},
		{"another_process_took_main_memory", 4 * gib, 4*gib - 1, 0},
		{"main_memory_could_not_be_read", 4 * gib, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			end := End{Code: registry.CodeEngineOOM, Need: Need{Host: c.known}, Room: c.room}
			got, ok := end.Raise()
			if ok != (c.was > 0) || got.Host != c.was || got.Devices != nil {
				t.Errorf("= %+v, %t", got, ok)
			}
		})
	}
	t.Run("killed_below_what_was_known", func(t *testing.T) {
		if got, ok := (End{Need: Need{Host: 5 * gib}, MemoryMax: 4 * gib}).Raise(); ok {
			t.Errorf("raised to %+v", got)
		}
	})
}

// raisedPeaks has one raised need, for every key.
type raisedPeaks struct {
	fixedPeaks
	raised Raised
}

func (p raisedPeaks) Raised(string) (Raised, bool) { return p.raised, true }

// TestRaisedNeed checks what a raised need changes, and for how long.
func TestRaisedNeed(t *testing.T) {
	model := tiny(t, 0)
	synctest.Test(t, func(t *testing.T) {
		estimate := func(p pool.Pool, r Raised, targets []devices.Target) Need {
			p.Engine = engine.LlamaCpp
			need, err := New(raisedPeaks{fixedPeaks{5 * gib}, r}, nil).Estimate(t.Context(), p, model, "", targets)
			if err != nil {
				t.Fatal(err)
			}
			return need
		}
		one := gpus(24 * gib)
		up := Raised{Code: registry.CodeCUDAOOM, At: time.Now(), Times: 1, Devices: []uint64{7 * gib}}
		need := estimate(pool.Pool{}, up, one)
		if need.Devices["GPU-a"] != 7*gib || need.Source != Measured || need.Raised == nil ||
			need.Usual().Devices["GPU-a"] != 5*gib {
			t.Errorf("need %+v", need)
		}
		need = estimate(pool.Pool{VRAMBytes: 6 * gib}, up, one)
		if need.Devices["GPU-a"] != 6*gib || need.Raised != nil {
			t.Errorf("the pool file does not win: %+v", need)
		}
		need = estimate(pool.Pool{}, Raised{At: time.Now(), Devices: []uint64{gib}}, one)
		if need.Devices["GPU-a"] != 5*gib || need.Raised != nil {
			t.Errorf("lowered: %+v", need)
		}
		if need := estimate(pool.Pool{}, up, gpus(gib, gib)); need.Raised != nil {
			t.Errorf("another mask: %+v", need)
		}
		need = estimate(pool.Pool{}, up, one)
		time.Sleep(raisedFirst - time.Second)
		if need.Over(time.Now()) || estimate(pool.Pool{}, up, one).Raised == nil {
			t.Error("over too early")
		}
		time.Sleep(time.Second)
		if !need.Over(time.Now()) || estimate(pool.Pool{}, up, one).Raised != nil {
			t.Error("it does not end")
		}
		up.Times = 3
		if estimate(pool.Pool{}, up, one).Raised == nil || up.Until().Sub(up.At) != 4*raisedFirst {
			t.Error("it does not hold longer the third time")
		}
		up.Times, up.At = 1<<30, time.Now().Add(time.Hour)
		if up.Until().Sub(up.At) != raisedMost || estimate(pool.Pool{}, up, one).Raised != nil {
			t.Error("not bounded, or a clock that was set back prolongs it")
		}
	})
}

// TestRaisedMainMemory: the start waits for as much as the limit at which the load was killed, and
// the texts say where that is from.
func TestRaisedMainMemory(t *testing.T) {
	now := time.Now()
	need := Need{Source: Estimated, Host: gib, Mapped: gib}.raise(
		Raised{Code: registry.CodeEngineOOM, At: now, Times: 1, Host: 4 * gib}, nil, now)
	p := pool.Pool{Limits: pool.Limits{MemoryMaxBytes: 4 * gib}}
	f, _ := CheckHost(need, 3*gib, p)
	if f == nil || !strings.Contains(f.Message, "needs 4.0 GiB") ||
		!strings.Contains(f.Hint, "raised after ENGINE_OOM") {
		t.Errorf("with 3 GiB: %+v", f)
	}
	if f, warning := CheckHost(need, 4*gib, p); f != nil || warning != "" {
		t.Errorf("with 4 GiB: %v, %s", f, warning)
	}
	raised, _ := End{Code: registry.CodeEngineOOM, At: now, Room: 8 * gib}.Raise() // of an engine without an estimate
	need = Need{}.raise(raised, nil, now)
	if f, _ = CheckHost(need, 8*gib, pool.Pool{}); f == nil || !strings.Contains(f.Message, "needs 8.2 GiB") ||
		!strings.Contains(f.Hint, "raised after ENGINE_OOM") {
		t.Errorf("without a limit, with 8 GiB: %+v", f)
	}
	if f, warning := CheckHost(need, 9*gib, pool.Pool{}); f != nil || warning != "" {
		t.Errorf("without a limit, with 9 GiB: %v, %s", f, warning)
	}
	if f, _ = CheckHost(need, 8*gib, pool.Pool{MemoryCheck: pool.MemoryOff}); f != nil {
		t.Errorf("with the check off: %+v", f)
	}
}

// FuzzRaise: a raised need is above the former one and within the device, so that raising ends.
func FuzzRaise(f *testing.F) {
	f.Add(uint64(5*gib), uint64(4*gib), uint64(9*gib), uint64(gib), uint64(0), uint64(24*gib))
	f.Add(uint64(0), uint64(0), uint64(0), uint64(1)<<43, uint64(1)<<43, uint64(1))
	f.Fuzz(mutate.Many(func(t *testing.T, known, used, room, failed, inUse, most uint64) {
		targets := gpus(most)
		end := End{Need: onDevices(Estimated, targets, []uint64{known}), Targets: targets,
			Seen:   []DeviceUse{{Used: used, Room: room, Most: most}},
			Failed: &classify.Allocation{Bytes: failed, InUse: inUse}}
		got, ok := end.Raise()
		if !ok {
			return
		}
		if got.Devices[0] <= known || most > 0 && got.Devices[0] > most {
			t.Errorf("from %d to %d of %d", known, got.Devices[0], most)
		}
	}))
}
