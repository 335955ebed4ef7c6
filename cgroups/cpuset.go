package cgroups

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// MaxCPU is the highest CPU or memory node number that a list may name. The kernel's own ceiling
// (CONFIG_NR_CPUS) is 8192 on the largest distribution kernels.
const MaxCPU = 8191

// ListError is an invalid list of CPUs or memory nodes.
type ListError struct {
	List   string
	Part   string // the part between commas that is wrong
	Reason string
}

func (e *ListError) Error() string {
	return fmt.Sprintf("list %q: %q %s; want numbers and ranges such as \"0-3,8\"", e.List, e.Part, e.Reason)
}

// Mask turns a list as in cpuset(7) ("0-3,8") into the bit mask that AllowedCPUs and
// AllowedMemoryNodes take on the bus: little-endian, bit N of byte N/8 is CPU N, without zero bytes
// at the end. An empty list is an empty mask, which stands for every CPU.
func Mask(list string) ([]byte, error) {
	mask := []byte{}
	if strings.TrimSpace(list) == "" {
		return mask, nil
	}
	for part := range strings.SplitSeq(list, ",") {
		low, high, err := bounds(strings.TrimSpace(part))
		if err != "" {
			return nil, &ListError{List: list, Part: strings.TrimSpace(part), Reason: err}
		}
		for len(mask) <= high/8 {
			mask = append(mask, 0)
		}
		for cpu := low; cpu <= high; cpu++ {
			mask[cpu/8] |= 1 << (cpu % 8)
		}
	}
	return mask, nil
}

// bounds reads "N" or "N-M"; reason is the error, "" if there is none.
func bounds(part string) (low, high int, reason string) {
	first, last, isRange := strings.Cut(part, "-")
	if !isRange {
		last = first
	}
	var ok bool
	if low, ok = cpuNumber(first); !ok {
		return 0, 0, "is not a number up to " + strconv.Itoa(MaxCPU)
	}
	if high, ok = cpuNumber(last); !ok {
		return 0, 0, "does not end in a number up to " + strconv.Itoa(MaxCPU)
	}
	if low > high {
		return 0, 0, "runs backwards"
	}
	return low, high, ""
}

func cpuNumber(s string) (int, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n <= MaxCPU
}

// List is the inverse of Mask, in the kernel's shortest form: ascending, ranges joined.
func List(mask []byte) string {
	var parts []string
	for cpu := nextSet(mask, 0); cpu >= 0; {
		end := cpu
		for isSet(mask, end+1) {
			end++
		}
		if end == cpu {
			parts = append(parts, strconv.Itoa(cpu))
		} else {
			parts = append(parts, strconv.Itoa(cpu)+"-"+strconv.Itoa(end))
		}
		cpu = nextSet(mask, end+1)
	}
	return strings.Join(parts, ",")
}

func isSet(mask []byte, cpu int) bool {
	return cpu/8 < len(mask) && mask[cpu/8]&(1<<(cpu%8)) != 0
}

// nextSet returns the first set bit at or behind from, or -1.
func nextSet(mask []byte, from int) int {
	for i := from / 8; i < len(mask); i++ {
		rest := mask[i]
		if i == from/8 {
			rest &= 0xff << (from % 8)
		}
		if rest != 0 {
			return i*8 + bits.TrailingZeros8(rest)
		}
	}
	return -1
}
