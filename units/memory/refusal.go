package memory

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/memory/shortage"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// Refusal returns why a replica with that need was not started, from the helper's answer; nil if no
// device is short. Targets are the replica's mask, for the names of the devices.
func Refusal(need Need, short []wire.Short, targets []devices.Target) *registry.Failure {
	if len(short) == 0 {
		return nil
	}
	clauses := make([]string, len(short))
	fits := true
	for i, s := range short {
		clauses[i] = shortage.Clause(s, deviceName(s.Device, targets))
		fits = fits && (s.Total == 0 || s.Need <= s.Total)
	}
	return registry.Fail(registry.CodeInsufficientVRAM, strings.Join(clauses, "; "), hint(need, short, fits))
}

func deviceName(uuid string, targets []devices.Target) string {
	for _, t := range targets {
		if t.UUID == uuid && !strings.HasPrefix(uuid, "MIG-") {
			name := fmt.Sprintf("GPU %d", t.Index)
			if t.Name != "" {
				name += " (" + t.Name + ")"
			}
			return name
		}
	}
	return uuid
}

// hint returns what an operator can do. fits: each device would be large enough if it were empty.
func hint(need Need, short []wire.Short, fits bool) string {
	var b strings.Builder
	switch {
	case !fits:
		b.WriteString("The need exceeds the device's total memory: lower ctx or slots, use more devices or a " +
			"smaller model.")
	case foreign(short):
		b.WriteString("Stop the process that uses the memory, or use another device; the pool starts by itself when " +
			"there is enough.")
	default:
		b.WriteString("Stop a pool that holds the memory, use another device, or lower ctx or slots; the pool starts " +
			"by itself when there is enough.")
	}
	switch need.Source {
	case Configured:
		b.WriteString(" The need is the key vram of the pool file.")
	case Measured:
		b.WriteString(" The need was measured in an earlier run; the key vram of the pool file overrides it.")
	case Estimated:
		b.WriteString(" The need is an estimate from the model's files; the key vram of the pool file overrides it.")
	case Claimed:
		fmt.Fprintf(&b, " The engine claims this share of the device whatever the model: lower it in args (%s).",
			need.ClaimFlag)
	}
	b.WriteString(need.raisedClause())
	return b.String()
}

// raisedClause is the sentence about a raised need, "" without one.
func (n Need) raisedClause() string {
	if n.Raised == nil {
		return ""
	}
	return fmt.Sprintf(" It was raised after %s of the load before, until %s at the latest.", n.Raised.Code,
		n.Raised.Until.Format("15:04:05"))
}

// foreign reports whether a process other than our engines uses memory of a device that is short.
func foreign(short []wire.Short) bool {
	for _, s := range short {
		for _, h := range s.Holders {
			if _, ours := pool.ParseUnit(h.Unit); !ours && h.Used > 0 {
				return true
			}
		}
	}
	return false
}
