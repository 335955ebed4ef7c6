package devices

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/test/mutate"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

const gpu0, gpu1, gpu2 = "GPU-11110000-aaaa-bbbb-cccc-000000000000", "GPU-11112222-aaaa-bbbb-cccc-000000000000",
	"GPU-33330000-aaaa-bbbb-cccc-000000000000"
const mig1, mig2 = "MIG-44440000-aaaa-bbbb-cccc-000000000000", "MIG-55550000-aaaa-bbbb-cccc-000000000000"

// host has two whole GPUs and one in two partitions.
func host() *nvml.Snapshot {
	on := true
	gpu := func(i int, uuid string) nvml.Device {
		return nvml.Device{UUID: uuid, Index: i, PCI: fmt.Sprintf("00000000:%02x:00.0", 0x65+i), Name: "A100",
			Nodes:  []string{fmt.Sprintf("/dev/nvidia%d", i)},
			Memory: &nvml.Memory{Total: 40 << 30}}
	}
	s := &nvml.Snapshot{Devices: []nvml.Device{gpu(0, gpu0), gpu(1, gpu1), gpu(2, gpu2)}}
	s.Devices[2].MIG = &on
	for i, uuid := range []string{mig1, mig2} {
		s.Devices[2].Partitions = append(s.Devices[2].Partitions,
			nvml.Partition{UUID: uuid, GI: i + 1, Profile: "3g.20gb", Memory: &nvml.Memory{Total: 20 << 30},
				Nodes: []string{"/dev/nvidia2", fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", 10+i)}})
	}
	return s
}

func TestResolve(t *testing.T) {
	legacy := "MIG-" + gpu2 + "/2/0"
	good := []struct {
		name string
		mask []string
		want string
	}{
		{"none", nil, ""},
		{"index", []string{"1"}, gpu1},
		{"uuid", []string{gpu0}, gpu0},
		{"uuid_in_capitals", []string{strings.ToUpper(gpu0)}, gpu0},
		{"unique_prefix", []string{"GPU-11112"}, gpu1},
		{"pci", []string{"65:00.0"}, gpu0},
		{"pci_with_short_domain", []string{"0000:66:00.0"}, gpu1},
		{"pci_with_long_domain", []string{"00000000:66:00.0"}, gpu1},
		{"mig", []string{mig2}, mig2},
		{"mig_prefix", []string{"MIG-4444"}, mig1},
		{"mig_legacy", []string{legacy}, mig2},
		{"several_in_their_order", []string{"1", gpu0}, gpu1 + " " + gpu0},
	}
	for _, c := range good {
		t.Run(c.name, func(t *testing.T) {
			got, err := Resolve(c.mask, host())
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for i, target := range got {
				names = append(names, target.UUID)
				if target.Entry != c.mask[i] || len(target.Nodes) == 0 || target.Total == 0 {
					t.Errorf("target %+v", target)
				}
			}
			if strings.Join(names, " ") != c.want {
				t.Errorf("got %v, want %s", names, c.want)
			}
		})
	}
}

func TestResolveRefuses(t *testing.T) {
	lost := func(s *nvml.Snapshot) {
		s.Devices[0].Problem, s.Devices[0].Nodes = &nvml.Problem{Kind: nvml.ProblemLost,
			Text: "it has fallen off the bus"}, nil
	}
	cases := []struct {
		name   string
		mask   []string
		change func(*nvml.Snapshot)
		code   registry.Code
		says   string
	}{
		{"index_that_is_not_there", []string{"7"}, nil, registry.CodeDeviceMaskInvalid, `device "7" does not exist`},
		{"ambiguous_prefix", []string{"GPU-1111"}, nil, registry.CodeDeviceMaskInvalid, gpu1},
		{"short_prefix", []string{"GPU-333"}, nil, registry.CodeDeviceMaskInvalid, "does not exist"},
		{"no_name_at_all", []string{"cuda:0"}, nil, registry.CodeDeviceMaskInvalid, "does not exist"},
		{"twice", []string{"0", "0"}, nil, registry.CodeDeviceMaskInvalid, "same device"},
		{"twice_in_two_spellings", []string{"0", "65:00.0"}, nil, registry.CodeDeviceMaskInvalid, "same device"},
		{"two_partitions", []string{mig1, mig2}, nil, registry.CodeDeviceMaskInvalid, "2 MIG partitions"},
		{"partition_beside_a_gpu", []string{mig1, "0"}, nil, registry.CodeDeviceMaskInvalid, "and a whole GPU"},
		{"gpu_in_mig_mode", []string{"2"}, nil, registry.CodeDeviceMaskInvalid, "MIG mode"},
		{"no_gpu_at_all", []string{"0"}, func(s *nvml.Snapshot) { s.Devices = nil }, registry.CodeDeviceMaskInvalid, "does not exist"},
		{"no_driver", []string{"0"}, func(s *nvml.Snapshot) {
			s.Driver.Problem = &nvml.Problem{Kind: nvml.ProblemNoDriver, Text: "the driver is not loaded"}
		}, registry.CodeGPUUnavailable, "the driver is not loaded"},
		{"lost_before_its_node_was_known", []string{gpu0}, lost, registry.CodeGPUUnavailable, "fallen off the bus"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := host()
			if c.change != nil {
				c.change(s)
			}
			_, err := Resolve(c.mask, s)
			var f *registry.Failure
			if !errors.As(err, &f) || f.Code != c.code || !strings.Contains(f.Message, c.says) || f.Hint == "" {
				t.Errorf("err = %#v, want %s that says %q", err, c.code, c.says)
			}
		})
	}
	t.Run("nothing_known", func(t *testing.T) {
		var f *registry.Failure
		if _, err := Resolve([]string{"0"}, nil); !errors.As(err, &f) || f.Code != registry.CodeGPUUnavailable {
			t.Errorf("err = %v", err)
		}
	})
	t.Run("hint_lists_what_there_is", func(t *testing.T) {
		_, err := Resolve([]string{"7"}, host())
		var f *registry.Failure
		if !errors.As(err, &f) || !strings.Contains(f.Hint, gpu1) || !strings.Contains(f.Hint, mig1+" 3g.20gb") {
			t.Errorf("hint = %v", f)
		}
	})
}

func FuzzResolve(f *testing.F) {
	for _, s := range []string{"0", gpu0, "GPU-1111", "65:00.0", "MIG-" + gpu2 + "/1/0", mig1, "", "GPU-", "99999"} {
		f.Add(s, "1")
	}
	f.Fuzz(mutate.Many(func(t *testing.T, a, b string) {
		s := host()
		got, err := Resolve([]string{a, b}, s)
		if err != nil {
			var fail *registry.Failure
			if !errors.As(err, &fail) {
				t.Errorf("%v is no failure", err)
			}
			return
		}
		if len(got) != 2 || got[0].UUID == got[1].UUID {
			t.Errorf("%q, %q became %+v", a, b, got)
		}
		for _, target := range got {
			if _, ok := s.Device(target.UUID); !ok {
				t.Errorf("%s is not of this host", target.UUID)
			}
		}
	}))
}

func TestOverlaps(t *testing.T) {
	claim := func(pool string, shared, running bool, mask ...string) Claim {
		targets, err := Resolve(mask, host())
		if err != nil {
			t.Fatal(err)
		}
		return Claim{Pool: pool, Shared: shared, Running: running, Targets: targets}
	}
	cases := []struct {
		name   string
		claims []Claim
		want   string // pools that are refused
	}{
		{"apart", []Claim{claim("a", false, false, "0"), claim("b", false, false, "1")}, ""},
		{"the_first_by_name_has_it", []Claim{claim("b", false, false, "0"), claim("a", false, false, gpu0)}, "b"},
		{"who_runs_keeps_it", []Claim{claim("b", false, true, "0"), claim("a", false, false, "0")}, "a"},
		{"both_share", []Claim{claim("a", true, false, "0"), claim("b", true, false, "0")}, ""},
		{"one_shares", []Claim{claim("a", true, false, "0"), claim("b", false, false, "0")}, "b"},
		{"one_device_of_two", []Claim{claim("a", false, false, "0", "1"), claim("b", false, false, "1")}, "b"},
		{"two_partitions_of_one_gpu", []Claim{claim("a", false, false, mig1), claim("b", false, false, mig2)}, ""},
		{"the_same_partition", []Claim{claim("a", false, false, mig1), claim("b", false, false, mig1)}, "b"},
		{"the_refused_stands_in_nobodys_way", []Claim{claim("a", false, false, "0"), claim("b", false, false, "0", "1"), claim("c", false, false, "1")}, "b"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			refused := Overlaps(c.claims)
			var got string
			for who, f := range refused {
				got += who.Pool
				if f.Code != registry.CodeDeviceMaskInvalid || f.Hint == "" {
					t.Errorf("%v: %v", who, f)
				}
			}
			if got != c.want {
				t.Errorf("refused %q, want %q", got, c.want)
			}
		})
	}
	t.Run("a_partition_meets_its_whole_gpu", func(t *testing.T) {
		whole := claim("a", false, false, mig1)
		whole.Targets[0].UUID, whole.Targets[0].MIG = gpu2, false // before MIG mode was switched on
		if refused := Overlaps([]Claim{whole, claim("b", false, false, mig1)}); len(refused) != 1 {
			t.Errorf("refused %v", refused)
		}
	})
}

func TestCheckSplit(t *testing.T) {
	mask, err := Resolve([]string{"0", "1"}, host())
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		split []float64
		need  uint64
		says  string
	}{
		{"none", nil, 100 << 30, ""},
		{"fits", []float64{0.6, 0.4}, 50 << 30, ""},
		{"need_not_known", []float64{0.6, 0.4}, 0, ""},
		{"too_few", []float64{1}, 0, "1 shares for 2 devices"},
		{"wrong_sum", []float64{0.6, 0.6}, 0, "adds up to 1.20"},
		{"one_gpu_is_too_small", []float64{0.8, 0.2}, 60 << 30, "[0.66, 0.66]"},
		{"no_split_fits", []float64{0.5, 0.5}, 100 << 30, "No split fits"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			err := CheckSplit(pool.Pool{TensorSplit: c.split}, mask, c.need)
			var f *registry.Failure
			switch {
			case c.says == "" && err != nil:
				t.Error(err)
			case c.says != "" && (!errors.As(err, &f) || !strings.Contains(f.Message+f.Hint, c.says)):
				t.Errorf("err = %v, want %q", err, c.says)
			}
		})
	}
}
