package trial

import (
	"fmt"
	"strings"
	"testing"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// TestVerdict: a value that changes may differ a little between two samples, and what one of the
// two does not report must be absent in the other.
func TestVerdict(t *testing.T) {
	find := func(name string) figure {
		for _, f := range figures {
			if f.name == name {
				return f
			}
		}
		t.Fatalf("no figure %s", name)
		return figure{}
	}
	for _, c := range []struct{ figure, ours, theirs, want string }{
		{"UUID", "GPU-1", "GPU-1", "same"},
		{"UUID", "GPU-1", "GPU-2", "differs"},
		{"memory, used", "4708", "4709", "same"},
		{"memory, used", "4708", "4720", "differs"},
		{"temperature", "37", "39", "same"},
		{"temperature", "37", "47", "differs"},
		{"power", "70.39", "80.00", "same"},
		{"power", "70.39", "700.00", "differs"},
		{"MIG mode", "", "[N/A]", "absent in both"},
		{"MIG mode", "Disabled", "[N/A]", "differs"},
		{"ECC", "", "Enabled", "differs"},
		{"compute mode", "", "Default", "not reported by pool-gpu"},
	} {
		t.Run(strings.NewReplacer(" ", "_", ",", "", "[", "", "]",
			"").Replace(c.figure+"/"+c.ours+"-"+c.theirs), func(t *testing.T) {
			if got := find(c.figure).verdict(c.ours, c.theirs); got != c.want {
				t.Errorf("%s: %q and %q: %s, want %s", c.figure, c.ours, c.theirs, got, c.want)
			}
		})
	}
}

// TestFiguresOfDevice: each figure is the one that nvidia-smi calls so, and nil is absent.
func TestFiguresOfDevice(t *testing.T) {
	number, yes, bytes := 7, true, uint64(480<<20)
	s := nvml.Snapshot{Driver: nvml.Driver{Version: "580.1"}}
	whole := nvml.Device{UUID: "GPU-1", Index: 3, PCI: "00000000:0a:06.0", Name: "H100", ComputeCapability: "9.0",
		Memory:         &nvml.Memory{Total: 100 << 20, Free: 70 << 20, Used: 30 << 20, Reserved: &bytes},
		TemperatureC:   &number,
		UtilizationPct: &number, PowerState: &number, PowerMilliwatts: &number, MIG: &yes,
		ECC: &nvml.ECC{Enabled: true, Corrected: &bytes}}
	var got, absent []string
	for _, f := range figures {
		if f.ours != nil {
			got = append(got, f.query+"="+f.ours(s, whole))
			absent = append(absent, f.ours(nvml.Snapshot{}, nvml.Device{}))
		}
	}
	want := "driver_version=580.1 index=3 uuid=GPU-1 name=H100 pci.bus_id=00000000:0A:06.0 compute_cap=9.0 " +
		"memory.total=100 memory.reserved=480 memory.used=30 memory.free=70 utilization.gpu=7 temperature.gpu=7 " +
		"pstate=P7 power.draw=0.01 " +
		"ecc.mode.current=Enabled ecc.errors.corrected.volatile.total=503316480 " +
		"ecc.errors.uncorrected.volatile.total= mig.mode.current=Enabled"
	if strings.Join(got, " ") != want {
		t.Errorf("figures\n%s\nwant\n%s", strings.Join(got, " "), want)
	}
	if text := strings.Join(absent, ""); text != "0" { // the index
		t.Errorf("of an unknown device: %q", absent)
	}
}

// TestParseCSV: nvidia-smi separates by a comma and a blank.
func TestParseCSV(t *testing.T) {
	rows, err := parseCSV("0, GPU-1, [N/A]\n1, GPU-2, 3\n")
	if got := fmt.Sprint(rows); err != nil || got != "[[0 GPU-1 [N/A]] [1 GPU-2 3]]" {
		t.Errorf("%s, %v", got, err)
	}
}
