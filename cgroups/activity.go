package cgroups

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Activity is what a cgroup has used since it was made, including its children. Counters of
// processes that have ended stay.
type Activity struct {
	CPU     time.Duration
	IOBytes uint64 // read from and written to disks; 0 without the io controller
	// Frozen reports that its processes stand still: it, or a cgroup above it, was frozen.
	Frozen bool
}

// ReadActivity reads one cgroup below root, named as ReadUsage does. It returns ErrNoCgroup when
// the cgroup is gone, and a *ParseError for contents it does not understand.
func ReadActivity(root, controlGroup string) (Activity, error) {
	dir, err := open(root, controlGroup)
	if err != nil {
		return Activity{}, err
	}
	defer dir.Close()
	r := &reader{dir: dir}
	stat, err := r.keyed("cpu.stat", "")
	if err != nil {
		return Activity{}, fmt.Errorf("cgroup %s: %w", controlGroup, err)
	}
	a := Activity{CPU: time.Duration(min(stat["usage_usec"], 1<<52)) * time.Microsecond}
	text, _, err := r.file("io.stat", "")
	if err != nil {
		return Activity{}, fmt.Errorf("cgroup %s: %w", controlGroup, err)
	}
	if a.IOBytes, err = ioBytes(text); err != nil {
		return Activity{}, fmt.Errorf("cgroup %s: %w", controlGroup, err)
	}
	events, err := r.keyed("cgroup.events", "")
	if err != nil {
		return Activity{}, fmt.Errorf("cgroup %s: %w", controlGroup, err)
	}
	a.Frozen = events["frozen"] == 1
	return a, nil
}

// ioBytes sums rbytes and wbytes of io.stat, which has a line for each device.
func ioBytes(text string) (sum uint64, err error) {
	for line := range strings.Lines(text) {
		for _, field := range strings.Fields(line) {
			key, number, _ := strings.Cut(field, "=")
			if key != "rbytes" && key != "wbytes" {
				continue
			}
			n, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				return 0, parseError("io.stat", field)
			}
			sum += n
		}
	}
	return sum, nil
}
