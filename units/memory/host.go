package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/pool-managerd/pool-managerd/registry"
)

// meminfo is proc_meminfo(5).
const meminfo = "/proc/meminfo"

// Available returns how much main memory can be taken without swapping, in bytes: MemAvailable, the kernel's own estimate.
func Available() (uint64, error) {
	text, err := os.ReadFile(meminfo)
	if err != nil {
		return 0, fmt.Errorf("main memory: %w", err)
	}
	return parseAvailable(text)
}

// errNoAvailable is what a text without the line gives; kernels before 3.14 have none.
var errNoAvailable = errors.New("main memory: " + meminfo + " has no line MemAvailable")

// parseAvailable reads the line "MemAvailable:   12345 kB". The unit is always kB, and means 1024 bytes.
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

// CheckHost says why a replica of that need must not be started on a host with so many bytes available, and under that MemoryMax= (0: none);
// nil: it may. A need that is not known passes.
//
// A mapped model counts, and the message says so: an engine on the CPU reads all of its weights for each token, and what does not fit is read
// from the disk each time.
func CheckHost(need Need, available, memoryMax uint64) *registry.Failure {
	mapped := ""
	if need.Mapped > 0 {
		mapped = fmt.Sprintf(" (%s of it the model's file, mapped)", Size(need.Mapped))
	}
	switch {
	case memoryMax > 0 && need.Host > memoryMax:
		return registry.Fail(registry.CodeInsufficientRAM,
			fmt.Sprintf("needs %s of main memory%s, and its memory_max is %s", Size(need.Host), mapped, Size(memoryMax)),
			"Raise memory_max of the pool's [limits], lower ctx or slots, or use a smaller model.")
	case need.Host > available:
		return registry.Fail(registry.CodeInsufficientRAM,
			fmt.Sprintf("needs %s of main memory%s, and %s is available", Size(need.Host), mapped, Size(available)),
			"Stop what takes the memory, lower ctx or slots, or use a smaller model. The pool starts by itself when there is enough.")
	}
	return nil
}

// Size writes bytes for people, in units of 1024 as free(1) and nvidia-smi do: "512 B", "1.5 GiB".
func Size(bytes uint64) string {
	const units = "KMGTPE"
	if bytes < 1024 {
		return strconv.FormatUint(bytes, 10) + " B"
	}
	value, unit := float64(bytes)/1024, 0
	for value >= 1023.95 && unit < len(units)-1 { // what would be written as 1024.0
		value, unit = value/1024, unit+1
	}
	return fmt.Sprintf("%.1f %ciB", value, units[unit])
}
