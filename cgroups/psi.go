package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
)

// Pressure is one pressure file of a cgroup (Documentation/accounting/psi.rst). It is absent where
// the kernel is built without CONFIG_PSI, booted with psi=0 or with psi on but not for cgroups
// (cgroup.pressure holds 0), older than 4.20, or the cgroup is not on the v2 tree.
type Pressure struct {
	Some Stall  // at least one task waited
	Full *Stall // all tasks waited at once
}

// Stall is one line of a pressure file.
type Stall struct {
	Avg10     float64 // percent of the last 10 s
	Avg60     float64 // percent of the last 60 s
	Avg300    float64 // percent of the last 300 s
	TotalUSec uint64  // since the cgroup was made
}

// CPU reads the pressure file of the whole host, nil where the kernel has none.
func CPU(path string) (*Pressure, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errors.ErrUnsupported) {
		return nil, nil // without CONFIG_PSI; with psi=0 it cannot be opened
	}
	if err != nil {
		return nil, err
	}
	return parsePressure(path, string(text))
}

func readPressure(r *reader, u *Usage) error {
	const file = "memory.pressure"
	text, ok, err := r.file(file, "the kernel has no pressure stall information for cgroups")
	if err != nil || !ok {
		return err
	}
	u.Pressure, err = parsePressure(file, text)
	return err
}

// parsePressure reads "some avg10=0.00 avg60=0.00 avg300=0.00 total=0" and the like line "full".
func parsePressure(file, text string) (*Pressure, error) {
	var p Pressure
	some := false
	for line := range strings.Lines(text) {
		kind, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		stall, ok := parseStall(rest)
		if !ok {
			return nil, parseError(file, strings.TrimSpace(line))
		}
		switch kind {
		case "some":
			p.Some, some = stall, true
		case "full":
			p.Full = &stall
		}
	}
	if !some {
		return nil, parseError(file, "no line \"some\"")
	}
	return &p, nil
}

func parseStall(text string) (Stall, bool) {
	var s Stall
	percent := map[string]*float64{"avg10": &s.Avg10, "avg60": &s.Avg60, "avg300": &s.Avg300}
	seen := 0
	for _, field := range strings.Fields(text) {
		key, number, _ := strings.Cut(field, "=")
		var err error
		if target := percent[key]; target != nil {
			*target, err = strconv.ParseFloat(number, 64)
			if *target < 0 || *target != *target {
				return Stall{}, false
			}
		} else if key == "total" {
			s.TotalUSec, err = strconv.ParseUint(number, 10, 64)
		} else {
			continue
		}
		if err != nil {
			return Stall{}, false
		}
		seen++
	}
	return s, seen == 4
}
