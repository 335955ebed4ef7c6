package restarts

import (
	"hash/fnv"
	"math"
	"time"
)

// longest is the longest time in computations: sums and jitter of it fit in an int64 of
// nanoseconds.
const longest = math.MaxInt64 / 8

// Backoff is the plain delay before the restart after n earlier failures: initial × factor^n, at
// most max, without jitter and class. PID 1's own delay grows like this if it supports
// RestartSteps= (systemd 254), rounded to whole steps.
func (p Policy) Backoff(n int) time.Duration {
	// A max below the first delay has no effect, as in PID 1 (service_restart_usec_next in
	// systemd's source).
	top := max(p.Max, p.Initial, 0)
	return min(scale(p.Initial, math.Pow(atLeastOne(p.Factor), float64(max(n, 0)))), top, longest)
}

// backoff is the delay with class and jitter. The jitter is computed from the seed and the count,
// so that replicas that failed together, and consecutive failures of one replica, restart at
// different times; the same input gives the same delay.
func (p Policy) backoff(failures int, c Class, seed string) time.Duration {
	return scale(p.ofClass(p.Backoff(failures-1), c), 1+p.jitter()*spread(seed, failures))
}

// ofClass is a delay as failures of a class wait it.
func (p Policy) ofClass(d time.Duration, c Class) time.Duration {
	if c.slow() {
		return scale(d, atLeastOne(p.ClassFactor))
	}
	return d
}

// jitter is the policy's jitter, limited to 0 to 1.
func (p Policy) jitter() float64 {
	if math.IsNaN(p.Jitter) {
		return 0
	}
	return min(max(p.Jitter, 0), 1)
}

// spread is a number between -1 and 1, computed from seed and count. The last step is the finaliser
// of splitmix64: seeds that differ only in their last character are close together in FNV's upper
// bits.
func spread(seed string, count int) float64 {
	h := fnv.New64a()
	h.Write([]byte(seed))
	x := h.Sum64() + uint64(count)*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	x ^= x >> 31
	return float64(x>>11)/(1<<53)*2 - 1
}

// scale multiplies a time without overflow; NaN becomes 0.
func scale(d time.Duration, by float64) time.Duration {
	f := float64(max(d, 0)) * by
	if math.IsNaN(f) {
		return 0
	}
	return time.Duration(min(max(f, 0), longest))
}

// plus adds two times without overflow.
func plus(a, b time.Duration) time.Duration {
	return min(min(a, longest)+min(b, longest), longest)
}

// atLeastOne is a factor of at least 1.
func atLeastOne(f float64) float64 {
	if math.IsNaN(f) {
		return 1
	}
	return max(f, 1)
}
