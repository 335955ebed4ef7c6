package driver

import (
	"math"
	"strings"
	"testing"
	"time"

	gonvml "github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/google/go-cmp/cmp"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/test/mutate"
)

func TestMinors(t *testing.T) {
	const list = "config 1\nmonitor 2\ngpu0/gi0/access 3\ngpu0/gi0/ci0/access 4\ngpu1/gi7/access " +
		"66\ngpu1/gi7/ci0/access 67\ngpu1/gi7/ci1/access 68\n"
	m := parseMinors(list)
	for _, c := range []struct {
		name   string
		minor  *int
		gi, ci int
		want   []string
	}{
		{"whole_of_an_instance", new(1), 7, 0, []string{"/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap67"}},
		{"second_compute_instance", new(1), 7, 1, []string{"/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap66", "/dev/nvidia-caps/nvidia-cap68"}},
		{"not_listed", new(1), 9, 0, []string{"/dev/nvidia1"}},
		{"no_minor_number", nil, 7, 0, []string{"/dev/nvidia1"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := m.nodes(nvml.Device{Minor: c.minor, Nodes: []string{"/dev/nvidia1"}}, c.gi, c.ci)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestMinorsRefuses(t *testing.T) {
	for _, line := range []string{"", "config 1", "gpu0/gi0/access", "gpu0/gi0/access x", "gpu0/gi0/access -1", "gpu0/gi0/ci0 4", "gpu0/access 4",
		"gpu/gi0/access 4", "gpu0/gi0/ci0/x/access 4", "gi0/gpu0/access 4", "gpu0/gi0/access 4294967296", "gpu0/gi0/access 4 5"} {
		if m := parseMinors(line + "\n"); len(m) != 0 {
			t.Errorf("%q gave %v", line, m)
		}
	}
}

func FuzzMinors(f *testing.F) {
	f.Add("gpu0/gi1/access 12\ngpu0/gi1/ci0/access 13\n")
	f.Add("config 1\nmonitor 2\n")
	f.Fuzz(mutate.Many(func(t *testing.T, text string) {
		m := parseMinors(text)
		if len(m) > strings.Count(text, "access") {
			t.Errorf("%d entries from %q", len(m), text)
		}
		for key, minor := range m {
			if key.gpu < 0 || key.gi < 0 || key.ci < whole || minor < 0 || minor > math.MaxInt32 {
				t.Errorf("%+v is %d", key, minor)
			}
		}
	}))
}

func TestProfile(t *testing.T) {
	const a100, h100 = 40 << 30, 85_520_809_984 // nvmlMemory_t.total, as these cards tell it
	for _, c := range []struct {
		want  string
		total uint64
		a     gonvml.DeviceAttributes
	}{
		{"1g.5gb", a100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 1, ComputeInstanceSliceCount: 1, MemorySizeMB: 4864}},
		{"1g.5gb+me", a100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 1, ComputeInstanceSliceCount: 1, MemorySizeMB: 4864, SharedOfaCount: 1}},
		{"2g.10gb", a100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 2, ComputeInstanceSliceCount: 2, MemorySizeMB: 9856}},
		{"1c.2g.10gb", a100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 2, ComputeInstanceSliceCount: 1, MemorySizeMB: 9856}},
		{"3g.20gb", a100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 3, ComputeInstanceSliceCount: 3, MemorySizeMB: 19968, SharedOfaCount: 1}},
		{"7g.40gb", a100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 7, ComputeInstanceSliceCount: 7, MemorySizeMB: 40192}},
		{"1g.10gb", h100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 1, ComputeInstanceSliceCount: 1, MemorySizeMB: 9984}},
		{"3g.40gb", h100, gonvml.DeviceAttributes{GpuInstanceSliceCount: 3, ComputeInstanceSliceCount: 3, MemorySizeMB: 40448}},
		{"", h100, gonvml.DeviceAttributes{}},
		{"", 0, gonvml.DeviceAttributes{GpuInstanceSliceCount: 1, MemorySizeMB: 4864}},
	} {
		t.Run("is_"+c.want, func(t *testing.T) {
			if got := profileOf(c.a, c.total); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	byPID := make(map[int]nvml.Process)
	merge(byPID, []gonvml.ProcessInfo{{Pid: 7, UsedGpuMemory: 100}, {Pid: 8, UsedGpuMemory: notAvailable}})
	merge(byPID, []gonvml.ProcessInfo{{Pid: 7, UsedGpuMemory: 300}, {Pid: 9, UsedGpuMemory: 0}})
	merge(byPID, []gonvml.ProcessInfo{{Pid: 7, UsedGpuMemory: 200}, {Pid: 7, UsedGpuMemory: notAvailable}})
	want := map[int]nvml.Process{7: {PID: 7, Used: new(uint64(300))}, 8: {PID: 8}, 9: {PID: 9, Used: new(uint64(0))}}
	if diff := cmp.Diff(want, byPID); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestEventOf(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for _, c := range []struct {
		name string
		data gonvml.EventData
		want *nvml.Event
	}{
		{"xid_of_a_whole_gpu", gonvml.EventData{EventType: gonvml.EventTypeXidCriticalError, EventData: 79, GpuInstanceId: wholeGPU, ComputeInstanceId: wholeGPU},
			&nvml.Event{At: now, Kind: nvml.EventXid, Device: "G", Code: 79}},
		{"xid_of_an_instance", gonvml.EventData{EventType: gonvml.EventTypeXidCriticalError, EventData: 31, GpuInstanceId: 7, ComputeInstanceId: 0},
			&nvml.Event{At: now, Kind: nvml.EventXid, Device: "G", Code: 31, GI: new(7), CI: new(0)}},
		{"double_bit", gonvml.EventData{EventType: gonvml.EventTypeDoubleBitEccError, GpuInstanceId: wholeGPU, ComputeInstanceId: wholeGPU},
			&nvml.Event{At: now, Kind: nvml.EventECCDouble, Device: "G"}},
		{"unavailable", gonvml.EventData{EventType: gonvml.EventTypeGpuUnavailableError, GpuInstanceId: wholeGPU, ComputeInstanceId: wholeGPU},
			&nvml.Event{At: now, Kind: nvml.EventUnavailable, Device: "G"}},
		{"recovery", gonvml.EventData{EventType: gonvml.EventTypeGpuRecoveryAction, EventData: 4, GpuInstanceId: wholeGPU, ComputeInstanceId: wholeGPU},
			&nvml.Event{At: now, Kind: nvml.EventRecovery, Device: "G", Code: 4, Text: "drain-and-reset"}},
		{"nobody_asked", gonvml.EventData{EventType: gonvml.EventTypeClock}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, eventOf(c.data, "G", now)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
}

func TestRecoveryOf(t *testing.T) {
	for action, want := range []nvml.Recovery{nvml.RecoveryNone, nvml.RecoveryReset, nvml.RecoveryReboot, nvml.RecoveryDrainP2P,
		nvml.RecoveryDrainAndReset, nvml.RecoveryDrainAndReset, nvml.RecoveryReset, nvml.RecoveryReboot, "action-8"} {
		if got := recoveryOf(uint32(action)); got != want {
			t.Errorf("action %d: got %q, want %q", action, got, want)
		}
	}
}

func TestRoster(t *testing.T) {
	lost := &nvml.Problem{Kind: nvml.ProblemLost, Code: 15, Text: "lost"}
	good := func(i int, uuid string) nvml.Device {
		return nvml.Device{Index: i, UUID: uuid, Name: "card " + uuid, Processes: []nvml.Process{{PID: 7}}}
	}
	was := func(i int, uuid string, p *nvml.Problem) nvml.Device {
		return nvml.Device{Index: i, UUID: uuid, Name: "card " + uuid, Problem: p}
	}
	gone := &nvml.Problem{Kind: nvml.ProblemLost, Code: 15, Text: "the driver no longer lists this GPU"}
	for _, c := range []struct {
		name      string
		first     []nvml.Device
		now, want []nvml.Device
	}{
		{"all_well", []nvml.Device{good(0, "a"), good(1, "b")}, []nvml.Device{good(0, "a"), good(1, "b")}, []nvml.Device{good(0, "a"), good(1, "b")}},
		{"lost_keeps_its_name", []nvml.Device{good(0, "a"), good(1, "b")}, []nvml.Device{{Index: 0, Problem: lost}, good(1, "b")},
			[]nvml.Device{was(0, "a", lost), good(1, "b")}},
		{"lost_with_its_name_tells_what_it_told", []nvml.Device{good(0, "a")}, []nvml.Device{{Index: 0, UUID: "a", Problem: lost}}, []nvml.Device{was(0, "a", lost)}},
		{"never_seen", nil, []nvml.Device{{Index: 0, Problem: lost}}, []nvml.Device{{Index: 0, Problem: lost}}},
		{"no_longer_listed", []nvml.Device{good(0, "a"), good(1, "b")}, []nvml.Device{good(0, "b")}, []nvml.Device{good(0, "b"), was(1, "a", gone)}},
		{"name_of_another_is_not_taken", []nvml.Device{good(0, "a"), good(1, "b")}, []nvml.Device{good(0, "b"), {Index: 1, Problem: lost}},
			[]nvml.Device{good(0, "b"), {Index: 1, Problem: lost}, was(2, "a", gone)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRoster()
			r.settle(c.first)
			if diff := cmp.Diff(c.want, r.settle(c.now)); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	t.Run("comes_back", func(t *testing.T) {
		r := newRoster()
		r.settle([]nvml.Device{good(0, "a")})
		r.settle([]nvml.Device{{Index: 0, Problem: lost}})
		if diff := cmp.Diff([]nvml.Device{good(0, "a")}, r.settle([]nvml.Device{good(0, "a")})); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// TestOpenNothing shows that no call is made before the library is there: it would end this
// process.
func TestOpenNothing(t *testing.T) {
	d := New(Options{Library: t.TempDir() + "/libnvidia-ml.so.1"})
	for range 2 {
		err := d.Open()
		p, ok := err.(*nvml.Problem)
		if !ok || p.Kind != nvml.ProblemNoLibrary || !strings.Contains(p.Text, "cannot open shared object file") {
			t.Fatalf("got %#v", err)
		}
		if _, err := d.Sample(); err == nil {
			t.Error("a sample without a session")
		}
		if err := d.Watch(); err != nil || d.Watching() {
			t.Errorf("watching without a session: %v", err)
		}
		d.Unwatch()
		d.Close()
	}
}
