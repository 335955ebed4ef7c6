package cgroups

import (
	"strconv"
	"strings"
)

// IO is what io.stat says, summed over devices (cgroup-v2.rst, "IO Interface Files"). Reads that the
// page cache serves are not in it.
type IO struct {
	ReadBytes  uint64
	WriteBytes uint64
	ReadOps    uint64
	WriteOps   uint64
}

// readIO leaves IO nil where the io controller is off. A file without lines is a cgroup that did no
// I/O yet: zero, and not absent.
func readIO(r *reader, u *Usage) error {
	const file = "io.stat"
	text, ok, err := r.file(file, "the io controller is not enabled for this cgroup")
	if err != nil || !ok {
		return err
	}
	var sum IO
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		// A device that is gone leaves its number alone on a line.
		for i, field := range fields {
			if i == 0 {
				continue
			}
			key, number, _ := strings.Cut(field, "=")
			counter := sum.counter(key)
			if counter == nil {
				continue // discards, and the keys of io.latency and io.cost
			}
			v, err := strconv.ParseUint(number, 10, 64)
			if err != nil {
				return parseError(file, field)
			}
			*counter += v
		}
	}
	u.IO = &sum
	return nil
}

func (io *IO) counter(key string) *uint64 {
	switch key {
	case "rbytes":
		return &io.ReadBytes
	case "wbytes":
		return &io.WriteBytes
	case "rios":
		return &io.ReadOps
	case "wios":
		return &io.WriteOps
	}
	return nil
}
