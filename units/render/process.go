package render

import (
	"cmp"
	"math"
	"slices"

	"github.com/pool-managerd/pool-managerd/cgroups"
	"github.com/pool-managerd/pool-managerd/systemd"
	"github.com/pool-managerd/pool-managerd/units/pool"
	"github.com/pool-managerd/pool-managerd/units/relax"
)

// defaultOpenFiles applies if a pool sets no [limits] nofile.
const defaultOpenFiles = 65536

// numaPolicies are the values of NUMAPolicy= over D-Bus, those of set_mempolicy(2).
var numaPolicies = []string{"default", pool.NUMAPreferred, pool.NUMABind, pool.NUMAInterleave, pool.NUMALocal}

// processLines are the limits that a process gets when it starts.
func processLines(in Input) []Line {
	const why = "[limits] of the pool file"
	p := in.Pool.Process
	files := number("LimitNOFILE", cmp.Or(p.OpenFiles, defaultOpenFiles),
		"one file descriptor per connection and per model shard: more "+
			"than the usual 1024")
	if p.OpenFiles > 0 {
		files.Why = why
	}
	lines := []Line{files}
	switch unlimited := allowed(in)[relax.Mlock]; {
	case p.MemlockBytes > 0:
		lines = append(lines, number("LimitMEMLOCK", p.MemlockBytes, why))
	case unlimited != "":
		line := number("LimitMEMLOCK", uint64(math.MaxUint64), unlimited)
		line.Text = "infinity"
		lines = append(lines, line)
	}
	if p.Nice != 0 {
		lines = append(lines, signed("Nice", p.Nice, why))
	}
	if p.NUMAPolicy == "" {
		return lines
	}
	return append(lines, numaLines(p)...)
}

// numaLines choose where the process's memory comes from. PID 1 (seen on 252, 257 and 262) does not
// write NUMAPolicy= of a transient unit to its file: after a daemon-reload its own restarts have
// no policy, which costs speed and nothing else. The nodes of "bind" are kept by the cgroup.
func numaLines(p pool.Process) []Line {
	const why = "[limits] of the pool file"
	policy := signed("NUMAPolicy", slices.Index(numaPolicies, p.NUMAPolicy),
		why+"; PID 1 forgets it at a daemon-reload, and its own restarts after one are without it")
	policy.Text = p.NUMAPolicy
	lines := []Line{policy}
	mask, err := cgroups.Mask(p.NUMANodes)
	if err != nil || len(mask) == 0 {
		return lines
	}
	nodes := func(key, why string) Line {
		return Line{Section: sectionService, Key: key, Text: cgroups.List(mask), Why: why,
			Property: systemd.Property{Name: key, Value: mask}}
	}
	lines = append(lines, nodes("NUMAMask", why))
	if p.NUMAPolicy == pool.NUMABind {
		lines = append(lines, nodes("AllowedMemoryNodes", "the same nodes by the cgroup, which a daemon-reload keeps"))
	}
	return lines
}
