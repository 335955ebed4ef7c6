package classify

import (
	"math"
	"regexp"
	"strconv"
	"strings"
)

// Allocation is a request for GPU memory that failed, as an engine logged it.
type Allocation struct {
	Bytes  uint64 // that it asked for
	Device int    // its position among the GPUs that the engine sees; -1: not named
	InUse  uint64 // what the process had of the GPU by its own account; 0: not named
}

// Failed allocations, as logged by ggml-cuda.cu ("allocating 9000.00 MiB on device 0: cudaMalloc
// failed: out of memory"), ggml-alloc.c ("failed to allocate CUDA0 buffer of size 9437184000") and
// PyTorch ("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of …,
// Including non-PyTorch memory, this process has 13.28 GiB memory in use", before 2.1 "(GPU 0;
// 15.78 GiB total capacity; …)").
var (
	ggmlMalloc   = regexp.MustCompile(`allocating ([0-9.]+) (MiB) on device ([0-9]{1,3}): cudaMalloc failed: out of memory`)
	ggmlBuffer   = regexp.MustCompile(`failed to allocate CUDA([0-9]{1,3}) buffer of size ([0-9]+)`)
	torchTried   = regexp.MustCompile(`CUDA out of memory\. Tried to allocate ([0-9.]+) (bytes|[KMGT]iB)`)
	torchDevice  = regexp.MustCompile(`GPU ([0-9]{1,3})(?:;| has a total)`)
	torchHolding = regexp.MustCompile(`this process has ([0-9.]+) (bytes|[KMGT]iB) memory in use`)
)

// FailedAllocation reads the allocation that a line of an engine's log reports as failed. A line
// that quotes a caller's text is ignored.
func FailedAllocation(line string) (a Allocation, ok bool) {
	if Quotes(line) {
		return Allocation{}, false
	}
	if m := ggmlMalloc.FindStringSubmatch(line); m != nil {
		return allocation(sizeOf(m[1], m[2]), m[3])
	}
	if m := ggmlBuffer.FindStringSubmatch(line); m != nil {
		return allocation(sizeOf(m[2], "bytes"), m[1])
	}
	m := torchTried.FindStringSubmatch(line)
	if m == nil {
		return Allocation{}, false
	}
	device := ""
	if d := torchDevice.FindStringSubmatch(line); d != nil {
		device = d[1]
	}
	a, ok = allocation(sizeOf(m[1], m[2]), device)
	if used := torchHolding.FindStringSubmatch(line); ok && used != nil {
		a.InUse = sizeOf(used[1], used[2])
	}
	return a, ok
}

func allocation(bytes uint64, device string) (Allocation, bool) {
	if bytes == 0 {
		return Allocation{}, false
	}
	a := Allocation{Bytes: bytes, Device: -1}
	if n, err := strconv.Atoi(device); err == nil {
		a.Device = n
	}
	return a, true
}

// maxAllocation is above the memory of any GPU, in bytes.
const maxAllocation = 1 << 44

// sizeOf returns a size in bytes; 0: it is none that a GPU could have.
func sizeOf(number, unit string) uint64 {
	value, err := strconv.ParseFloat(number, 64)
	if err != nil || math.IsNaN(value) {
		return 0
	}
	if unit != "bytes" {
		value *= math.Pow(1024, float64(1+strings.Index("KMGT", unit[:1])))
	}
	if value < 1 || value > maxAllocation {
		return 0
	}
	return uint64(value)
}

// LastAllocation returns the newest failed allocation of a run's lines, the oldest first, that the
// engine did not go on without.
func LastAllocation(lines []string) (a Allocation, ok bool) {
	for _, line := range lines {
		if Retried(line) {
			a, ok = Allocation{}, false
			continue
		}
		next, failed := FailedAllocation(line)
		if failed && (!ok || next.Bytes >= a.Bytes || next.Device != a.Device) {
			a, ok = next, true
		}
	}
	return a, ok
}
