package gate

import (
	"fmt"
	"time"

	"github.com/pool-managerd/pool-managerd/units/gate/exit"
)

// reportEvery is the time between log lines about a long load.
const reportEvery = time.Minute

// report logs the progress of a long load.
type report struct {
	last time.Duration // time of the last line, since the gate began
}

// next returns the line to log at a sample, with what the engine answered last, or "" if none is
// due.
func (r *report) next(s Sample, idle time.Duration, heard func() string) string {
	if s.At-r.last < reportEvery {
		return ""
	}
	r.last = s.At
	text := fmt.Sprintf("still loading after %s: %s; last progress %s ago", s.At.Round(time.Second), used(s),
		idle.Round(time.Second))
	if h := heard(); h != "" {
		text += exit.HeardSeparator + h
	}
	return text
}

// used describes what the engine has used so far. The kernel often has no counter of input; the
// memory shows it then.
func used(s Sample) string {
	text := fmt.Sprintf("CPU %.1f s, memory %s", s.CPU.Seconds(), size(s.Memory))
	if all := s.Read + s.Written; all > 0 {
		text += ", input and output " + size(all)
	}
	return text
}

// size formats bytes in powers of 1000.
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
