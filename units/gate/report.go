package gate

import (
	"fmt"
	"time"
)

// reportEvery is how often a long load is mentioned in the log.
const reportEvery = time.Minute

// report mentions a load that takes long.
type report struct {
	last time.Duration // when it was mentioned, since the gate began
}

// next is the line to log at a sample, "" when it is not yet time for one.
func (r *report) next(s Sample, idle time.Duration) string {
	if s.At-r.last < reportEvery {
		return ""
	}
	r.last = s.At
	return fmt.Sprintf("still loading after %s: %s; it last moved %s ago", s.At.Round(time.Second), used(s),
		idle.Round(time.Second))
}

// used is what the engine has used so far, in words. The kernel's counter of input is often not
// there: then the memory tells.
func used(s Sample) string {
	text := fmt.Sprintf("CPU %.1f s, memory %s", s.CPU.Seconds(), size(s.Memory))
	if s.IO > 0 {
		text += ", input and output " + size(s.IO)
	}
	return text
}

// size prints bytes as people say them, in powers of 1000.
func size(n uint64) string {
	units := []string{"bytes", "kB", "MB", "GB", "TB"}
	value, unit := float64(n), 0
	for value >= 999.5 && unit < len(units)-1 {
		value, unit = value/1000, unit+1
	}
	if unit == 0 || value >= 9.95 {
		return fmt.Sprintf("%.0f %s", value, units[unit])
	}
	return fmt.Sprintf("%.1f %s", value, units[unit])
}
