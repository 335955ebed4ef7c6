package devices

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// splitTolerance is how far the sum of a tensor_split may be from 1: three GPUs at 0.33.
const splitTolerance = 0.02

// CheckSplit rejects a tensor_split that does not fit the mask. need is what the whole model needs
// on its GPUs in bytes; 0: unknown, then only length and sum are checked. The error is a
// *registry.Failure.
func CheckSplit(p pool.Pool, mask []Target, need uint64) error {
	if len(p.TensorSplit) == 0 {
		return nil
	}
	if len(p.TensorSplit) != len(mask) {
		return registry.Fail(registry.CodeConfigInvalid,
			fmt.Sprintf("tensor_split has %d shares for %d devices", len(p.TensorSplit), len(mask)),
			"Give one share for each device of the mask, in its order; poolctl devices lists them.")
	}
	sum := 0.0
	for _, share := range p.TensorSplit {
		sum += share
	}
	if math.Abs(sum-1) > splitTolerance {
		return registry.Fail(registry.CodeConfigInvalid, fmt.Sprintf("tensor_split adds up to %.2f", sum),
			"The shares must add up to 1; poolctl devices lists the devices.")
	}
	for i, t := range mask {
		if t.Total > 0 && float64(need)*p.TensorSplit[i] > float64(t.Total) {
			return tooLarge(p, mask, need, i)
		}
	}
	return nil
}

// tooLarge returns the failure, with the largest share that each device can take.
func tooLarge(p pool.Pool, mask []Target, need uint64, at int) *registry.Failure {
	largest := make([]string, len(mask))
	room := 0.0
	for i, t := range mask {
		share := min(1, float64(t.Total)/float64(need))
		room += share
		largest[i] = strconv.FormatFloat(math.Floor(share*100)/100, 'f', 2, 64)
	}
	hint := "The largest shares that fit are [" + strings.Join(largest, ", ") + "]; poolctl devices has the sizes."
	if room < 1 {
		hint = "No split fits: all devices together hold less than the model needs. " + hint
	}
	return registry.Fail(registry.CodeInsufficientVRAM,
		fmt.Sprintf("tensor_split gives device %q %.0f %% of %.1f GiB, and it has %.1f GiB", mask[at].Entry,
			100*p.TensorSplit[at], gib(need), gib(mask[at].Total)), hint)
}

func gib(bytes uint64) float64 { return float64(bytes) / (1 << 30) }
