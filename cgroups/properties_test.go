package cgroups

import (
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestProperties(t *testing.T) {
	cases := []struct {
		name string
		in   specs.LinuxResources
		want []Property
	}{
		{"nothing", specs.LinuxResources{}, []Property{}},
		{"memory", memory(100, 60, 150), []Property{{MemoryLow, uint64(60)}, {MemoryMax, uint64(100)}, {MemorySwapMax, uint64(50)}}},
		{"memory_without_limit", memory(-1, 0, -1),
			[]Property{{MemoryLow, uint64(0)}, {MemoryMax, Infinity}, {MemorySwapMax, Infinity}}},
		{"shares_at_their_ends/low", shares(2), []Property{{CPUWeight, uint64(1)}}},
		{"shares_at_their_ends/high", shares(262144), []Property{{CPUWeight, uint64(10000)}}},
		{"shares_by_default", shares(1024), []Property{{CPUWeight, uint64(39)}}},
		{"quota", quota(50_000, 100_000), []Property{{CPUQuotaPerSecUSec, uint64(500_000)}}},
		{"quota_is_rounded_up", quota(1, 100_000), []Property{{CPUQuotaPerSecUSec, uint64(10_000)}}},
		{"quota_is_rounded_up/above_a_grain", quota(1001, 100_000), []Property{{CPUQuotaPerSecUSec, uint64(20_000)}}},
		{"quota_without_period", quota(50_000, 0), []Property{{CPUQuotaPerSecUSec, uint64(500_000)}}},
		{"quota_without_limit", quota(-1, 100_000), []Property{{CPUQuotaPerSecUSec, Infinity}}},
		{"cpus_and_mems", specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "0-3,8", Mems: "1"}},
			[]Property{{AllowedCPUs, []byte{0x0f, 0x01}}, {AllowedMemoryNodes, []byte{0x02}}}},
		{"pids", pids(7), []Property{{TasksMax, uint64(7)}}},
		{"pids/none_is_one", pids(0), []Property{{TasksMax, uint64(1)}}},
		{"pids/unlimited", pids(-1), []Property{{TasksMax, Infinity}}},
		{"io_weight/low", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr[uint16](10)}}, []Property{{IOWeight, uint64(1)}}},
		{"io_weight/high", specs.LinuxResources{BlockIO: &specs.LinuxBlockIO{Weight: ptr[uint16](1000)}}, []Property{{IOWeight, uint64(10000)}}},
		{"unified", specs.LinuxResources{Unified: map[string]string{"memory.high": "max", "cpu.weight": "200", "io.weight": "default 50"}},
			[]Property{{CPUWeight, uint64(200)}, {IOWeight, uint64(50)}, {MemoryHigh, Infinity}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, err := Properties(&c.in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	if got, err := Properties(nil); got != nil || err != nil {
		t.Errorf("no resources: %v, %v", got, err)
	}
}

func memory(limit, reservation, swap int64) specs.LinuxResources {
	return specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &limit, Reservation: &reservation, Swap: &swap}}
}

func shares(n uint64) specs.LinuxResources {
	return specs.LinuxResources{CPU: &specs.LinuxCPU{Shares: &n}}
}

func quota(quota int64, period uint64) specs.LinuxResources {
	return specs.LinuxResources{CPU: &specs.LinuxCPU{Quota: &quota, Period: &period}}
}

func pids(n int64) specs.LinuxResources {
	return specs.LinuxResources{Pids: &specs.LinuxPids{Limit: &n}}
}

// TestPropertiesRefuseWhatPID1Owns: no field is dropped in silence.
func TestPropertiesRefuseWhatPID1Owns(t *testing.T) {
	cases := map[string]specs.LinuxResources{
		"devices":           {Devices: []specs.LinuxDeviceCgroup{{Allow: false, Access: "rwm"}}},
		"hugepageLimits":    {HugepageLimits: []specs.LinuxHugepageLimit{{Pagesize: "2MB"}}},
		"rdma":              {Rdma: map[string]specs.LinuxRdma{"mlx5_1": {}}},
		"network":           {Network: &specs.LinuxNetwork{}},
		"memory.swappiness": {Memory: &specs.LinuxMemory{Swappiness: ptr[uint64](60)}},
		//lint:ignore SA1019 the deprecated field is what is tested
		"memory.kernel":           {Memory: &specs.LinuxMemory{Kernel: ptr[int64](1)}},
		"memory.kernelTCP":        {Memory: &specs.LinuxMemory{KernelTCP: ptr[int64](1)}},
		"memory.disableOOMKiller": {Memory: &specs.LinuxMemory{DisableOOMKiller: ptr(true)}},
		"cpu.realtimeRuntime":     {CPU: &specs.LinuxCPU{RealtimeRuntime: ptr[int64](1)}},
		"cpu.realtimePeriod":      {CPU: &specs.LinuxCPU{RealtimePeriod: ptr[uint64](1)}},
		"cpu.burst":               {CPU: &specs.LinuxCPU{Burst: ptr[uint64](1)}},
		"cpu.idle":                {CPU: &specs.LinuxCPU{Idle: ptr[int64](1)}},
		"blockIO.leafWeight":      {BlockIO: &specs.LinuxBlockIO{LeafWeight: ptr[uint16](10)}},
		"blockIO.weightDevice":    {BlockIO: &specs.LinuxBlockIO{WeightDevice: []specs.LinuxWeightDevice{{}}}},
		"blockIO.throttle":        {BlockIO: &specs.LinuxBlockIO{ThrottleReadBpsDevice: []specs.LinuxThrottleDevice{{}}}},
		"unified.hugetlb.2MB.max": {Unified: map[string]string{"hugetlb.2MB.max": "0"}},
	}
	for field, in := range cases {
		got, err := Properties(&in)
		var unsupported *UnsupportedError
		if !errors.As(err, &unsupported) || unsupported.Field != field || got != nil {
			t.Errorf("%s: %v, %v; want an UnsupportedError for it", field, got, err)
		}
	}
	for _, row := range unsupported {
		if _, ok := cases[row.Field]; !ok {
			t.Errorf("no case for %s", row.Field)
		}
	}
}

func TestPropertiesRefuseValues(t *testing.T) {
	for name, in := range map[string]specs.LinuxResources{
		"memory.limit":         memory(-2, 0, 0),
		"memory.reservation":   memory(1, -7, 1),
		"swap_below_memory":    memory(100, 0, 50),
		"swap_without_memory":  {Memory: &specs.LinuxMemory{Swap: ptr[int64](1)}},
		"quota":                quota(-5, 100_000),
		"quota_beyond_reason":  quota(math.MaxInt64, 1),
		"pids":                 pids(-2),
		"io_weight":            {BlockIO: &specs.LinuxBlockIO{Weight: ptr[uint16](5)}},
		"unified_weight":       {Unified: map[string]string{"cpu.weight": "0"}},
		"unified_memory":       {Unified: map[string]string{"memory.high": "4G"}},
		"unified_weight_words": {Unified: map[string]string{"io.weight": "8:0 100"}},
	} {
		got, err := Properties(&in)
		var value *ValueError
		if !errors.As(err, &value) || got != nil {
			t.Errorf("%s: %v, %v; want a ValueError", name, got, err)
		}
	}
	_, err := Properties(&specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "3-1"}})
	var list *ListError
	if !errors.As(err, &list) || list.Part != "3-1" {
		t.Errorf("cpus: %v", err)
	}
}

func TestFromLimits(t *testing.T) {
	limits := Limits{MemoryMaxBytes: 24 << 30, MemoryHighBytes: 20 << 30, CPUQuotaPercent: 250, CPUs: "0-3,8",
		CPUWeight: 200, IOWeight: 50, TasksMax: 512}
	got, err := Properties(FromLimits(limits))
	if err != nil {
		t.Fatal(err)
	}
	want := []Property{
		{AllowedCPUs, []byte{0x0f, 0x01}}, {CPUQuotaPerSecUSec, uint64(2_500_000)}, {CPUWeight, uint64(200)},
		{IOWeight, uint64(50)}, {MemoryHigh, uint64(20 << 30)}, {MemoryMax, uint64(24 << 30)}, {TasksMax, uint64(512)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got, err := Properties(FromLimits(Limits{})); err != nil || len(got) != 0 {
		t.Errorf("no limits: %v, %v", got, err)
	}
	// A percentage is kept to the percent: no rounding up or down on the way.
	for percent := 1; percent <= 20_000; percent++ {
		got, err := Properties(FromLimits(Limits{CPUQuotaPercent: percent}))
		if err != nil || got[0].Value != uint64(percent)*10_000 {
			t.Fatalf("%d%%: %v, %v", percent, got, err)
		}
	}
}
