// Package ram reads how much main memory of the host is available, and formats sizes.
//
// It imports only the standard library, so that pool-gate stays small. It must not know needs,
// pools or GPUs.
package ram

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
)

// meminfo is proc_meminfo(5).
const meminfo = "/proc/meminfo"

// Available returns how much main memory can be allocated without swapping, in bytes: MemAvailable,
// the kernel's own estimate.
func Available() (uint64, error) {
	text, err := os.ReadFile(meminfo)
	if err != nil {
		return 0, fmt.Errorf("main memory: %w", err)
	}
	return parseAvailable(text)
}

// Total returns the host's main memory in bytes; 0 if the kernel does not report it.
func Total() uint64 {
	var info syscall.Sysinfo_t
	if syscall.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// errNoAvailable: the line is missing, as in kernels before 3.14.
var errNoAvailable = errors.New("main memory: " + meminfo + " has no line MemAvailable")

// parseAvailable reads the line "MemAvailable:   12345 kB". The unit is always kB, and means 1024
// bytes.
func parseAvailable(text []byte) (uint64, error) {
	for line := range bytes.Lines(text) {
		value, found := bytes.CutPrefix(line, []byte("MemAvailable:"))
		if !found {
			continue
		}
		fields := bytes.Fields(value)
		if len(fields) != 2 || string(fields[1]) != "kB" {
			return 0, fmt.Errorf("main memory: cannot read %q", bytes.TrimSpace(line))
		}
		kib, err := strconv.ParseUint(string(fields[0]), 10, 54) // 54 bits of kB are 64 of bytes
		if err != nil {
			return 0, fmt.Errorf("main memory: cannot read %q: %w", bytes.TrimSpace(line), err)
		}
		return kib << 10, nil
	}
	return 0, errNoAvailable
}

// Size formats bytes, in units of 1024 as free(1) and nvidia-smi do: "512 B", "1.5 GiB".
func Size(bytes uint64) string {
	const units = "KMGTPE"
	if bytes < 1024 {
		return strconv.FormatUint(bytes, 10) + " B"
	}
	value, unit := float64(bytes)/1024, 0
	for value >= 1023.95 && unit < len(units)-1 { // avoid 1024.0
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
