package fleet

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// ReadHost reads who the host below root is ("/" for this one).
func ReadHost(root string) (Host, error) {
	h := Host{CPUs: runtime.NumCPU()}
	for _, f := range []struct {
		path string
		into *string
	}{
		{"etc/machine-id", &h.MachineID},
		{"proc/sys/kernel/random/boot_id", &h.BootID},
		{"proc/sys/kernel/hostname", &h.Name},
	} {
		content, err := os.ReadFile(filepath.Join(root, f.path))
		if err != nil {
			return Host{}, fmt.Errorf("could not read who this host is: %w", err)
		}
		*f.into = strings.TrimSpace(string(content))
	}
	// "uninitialized" is an image before its first boot, machine-id(5)
	if len(h.MachineID) != 32 || strings.Trim(h.MachineID, "0123456789abcdef") != "" {
		return Host{}, fmt.Errorf("/etc/machine-id has no id of a machine: run systemd-machine-id-setup")
	}
	h.RAMBytes = memTotal(filepath.Join(root, "proc/meminfo"))
	return h, nil
}

// memTotal is the main memory by proc(5); 0: unknown.
func memTotal(path string) uint64 {
	file, err := os.Open(path)
	if err != nil {
		return 0
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			if kib, err := strconv.ParseUint(fields[1], 10, 54); err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
