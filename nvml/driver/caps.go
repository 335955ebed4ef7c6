package driver

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml"
)

// minorKey is what a capability node gives access to. CI is `whole` for the GPU instance itself.
type minorKey struct{ gpu, gi, ci int }

const whole = -1

// minors are the minor numbers of /dev/nvidia-caps/nvidia-cap<minor>.
type minors map[minorKey]int

// readMinors reads the driver's list below /proc; it is empty on hosts without MIG.
func readMinors(proc string) minors {
	text, err := os.ReadFile(filepath.Join(proc, "driver/nvidia-caps/mig-minors"))
	if err != nil {
		return nil
	}
	return parseMinors(string(text))
}

// parseMinors reads lines such as "gpu0/gi1/access 12" and "gpu0/gi1/ci0/access 13" (NVIDIA's MIG
// user guide, "Device nodes and capabilities"). Other lines ("config 1", "monitor 2") are not about
// a partition.
func parseMinors(text string) minors {
	all := make(minors)
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			continue
		}
		key, ok := parseKey(strings.Split(fields[0], "/"))
		minor, err := strconv.ParseUint(fields[1], 10, 31)
		if ok && err == nil {
			all[key] = int(minor)
		}
	}
	return all
}

func parseKey(parts []string) (minorKey, bool) {
	key := minorKey{ci: whole}
	if len(parts) < 3 || len(parts) > 4 || parts[len(parts)-1] != "access" {
		return key, false
	}
	for i, into := range []struct {
		prefix string
		n      *int
	}{{"gpu", &key.gpu}, {"gi", &key.gi}, {"ci", &key.ci}}[:len(parts)-1] {
		digits, ok := strings.CutPrefix(parts[i], into.prefix)
		n, err := strconv.ParseUint(digits, 10, 31)
		if !ok || err != nil {
			return key, false
		}
		*into.n = int(n)
	}
	return key, true
}

// nodes returns the device files that a partition needs: its GPU's, and those of its GPU instance
// and compute instance. The minors list numbers GPUs by minor number.
func (m minors) nodes(parent nvml.Device, gi, ci int) []string {
	all := append([]string(nil), parent.Nodes...)
	if parent.Minor == nil {
		return all
	}
	for _, key := range []minorKey{{*parent.Minor, gi, whole}, {*parent.Minor, gi, ci}} {
		if minor, ok := m[key]; ok {
			all = append(all, fmt.Sprintf("/dev/nvidia-caps/nvidia-cap%d", minor))
		}
	}
	return all
}
