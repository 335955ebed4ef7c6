//go:build gpu

package gpu

import (
	"encoding/csv"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// TestSnapshot: what pool-gpu reads is what nvidia-smi prints, with and without the sandbox of the
// packaged unit. That the sandbox allows all that NVIDIA's library does is known nowhere else.
func TestSnapshot(t *testing.T) {
	needGPU(t)
	for name, socket := range map[string]func(*testing.T) string{"by_hand": byHand, "in_the_sandbox": inSandbox} {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, socket(t))
			if s.Driver.Problem != nil {
				t.Fatalf("the driver does not answer: %s", s.Driver.Problem)
			}
			t.Logf("driver %s, CUDA %s, %d GPUs, missing calls %v", s.Driver.Version, s.Driver.CUDA, len(s.Devices),
				s.Driver.Missing)
			for _, d := range s.Devices {
				sane(t, d)
			}
			compare(t, s)
		})
	}
}

// compare compares a snapshot with nvidia-smi(1).
func compare(t *testing.T, s *nvml.Snapshot) {
	t.Helper()
	if _, err := exec.LookPath("nvidia-smi"); err != nil {
		t.Skip("there is no nvidia-smi to compare with; the snapshot was read")
	}
	out, err := exec.Command("nvidia-smi", "--query-gpu=index,uuid,pci.bus_id,name,memory.total,driver_version",
		"--format=csv,noheader,nounits").Output()
	if err != nil {
		t.Fatalf("nvidia-smi: %v\n%s", err, out)
	}
	read := csv.NewReader(strings.NewReader(string(out)))
	read.TrimLeadingSpace = true
	rows, err := read.ReadAll()
	if err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(rows) != len(s.Devices) {
		t.Fatalf("pool-gpu knows %d GPUs, nvidia-smi %d", len(s.Devices), len(rows))
	}
	for _, row := range rows {
		d, ok := s.Device(row[1])
		if !ok {
			t.Errorf("pool-gpu does not know %s", row[1])
			continue
		}
		var mib string
		if d.Memory != nil {
			mib = strconv.FormatUint(d.Memory.Total>>20, 10)
		}
		got := []string{strconv.Itoa(d.Index), d.UUID, strings.ToUpper(d.PCI), d.Name, mib, s.Driver.Version}
		row[2] = strings.ToUpper(row[2])
		if fmt.Sprint(got) != fmt.Sprint(row) {
			t.Errorf("pool-gpu reports %q, nvidia-smi %q", got, row)
		}
	}
}

// sane checks the values of a GPU that works.
func sane(t *testing.T, d nvml.Device) {
	t.Helper()
	if d.Problem != nil {
		t.Errorf("GPU %d does not answer: %s", d.Index, d.Problem)
		return
	}
	if m := d.Memory; m == nil || m.Total == 0 || m.Free > m.Total || m.Used > m.Total {
		t.Errorf("GPU %d has the memory %+v", d.Index, m)
	}
	nodes := d.Nodes
	for _, p := range d.Partitions {
		nodes = append(nodes, p.Nodes...)
		if p.UUID == "" || p.Memory == nil {
			t.Errorf("GPU %d has the partition %+v", d.Index, p)
		}
	}
	if len(nodes) == 0 {
		t.Errorf("GPU %d has no device node", d.Index)
	}
	for _, n := range nodes {
		if info, err := os.Stat(n); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			t.Errorf("GPU %d: %s is no device node (%v)", d.Index, n, err)
		}
	}
}

// TestSampleTime logs how long a snapshot takes here. It asserts nothing of that.
func TestSampleTime(t *testing.T) {
	needGPU(t)
	socket := byHand(t)
	snapshot(t, socket) // the first one loads the driver
	const rounds = 20
	began := time.Now()
	for range rounds {
		snapshot(t, socket)
	}
	t.Logf("%s for a snapshot", time.Since(began)/rounds)
}
