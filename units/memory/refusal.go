package memory

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/registry"
	"github.com/pool-managerd/pool-managerd/units/devices"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// maxHolders is how many holders of a device's memory a message names.
const maxHolders = 4

// Refusal says in words why a replica of that need was not started, from the helper's answer; nil where nothing is short. Targets are
// the replica's mask, for the names of the devices.
func Refusal(need Need, short []wire.Short, targets []devices.Target) *registry.Failure {
	if len(short) == 0 {
		return nil
	}
	clauses := make([]string, len(short))
	fits := true
	for i, s := range short {
		clauses[i] = shortage(s, targets)
		fits = fits && (s.Total == 0 || s.Need <= s.Total)
	}
	return registry.Fail(registry.CodeInsufficientVRAM, strings.Join(clauses, "; "), remedy(need, short, fits))
}

// shortage is "GPU 0 (Tesla T4): needs 6.0 GiB, 2.1 GiB of 15.0 GiB is free; it is held by …".
func shortage(s wire.Short, targets []devices.Target) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: needs %s, and %s", deviceName(s.Device, targets), Size(s.Need), Size(s.Free))
	if s.Total > 0 {
		fmt.Fprintf(&b, " of %s", Size(s.Total))
	}
	b.WriteString(" is free")
	if s.Promised > 0 {
		fmt.Fprintf(&b, ", of which %s is promised to replicas that are loading", Size(s.Promised))
	}
	if list := holders(s.Holders); list != "" {
		b.WriteString(" (held by " + list + ")")
	}
	return b.String()
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

// holders lists who has the memory, the largest first as they came.
func holders(list []wire.Holder) string {
	var names []string
	for i, h := range list {
		if i == maxHolders {
			names = append(names, fmt.Sprintf("%d more", len(list)-i))
			break
		}
		name := holderName(h)
		switch {
		case h.Used > 0:
			name += " with " + Size(h.Used)
		case h.Promised > 0:
			name += ", promised " + Size(h.Promised)
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// holderName names a replica of ours by pool, anything else by its unit and process.
func holderName(h wire.Holder) string {
	if r, ours := pool.ParseUnit(h.Unit); ours {
		return "pool " + r.String()
	}
	switch {
	case h.Unit != "" && h.PID > 0:
		return fmt.Sprintf("process %d of %s", h.PID, h.Unit)
	case h.Unit != "":
		return h.Unit
	case h.PID > 0:
		return fmt.Sprintf("process %d", h.PID)
	}
	return "an unknown process"
}

// remedy is what an operator can do; fits says that each device would have room if it were empty.
func remedy(need Need, short []wire.Short, fits bool) string {
	var b strings.Builder
	switch {
	case !fits:
		b.WriteString("The need is above the device's whole memory: lower ctx or slots, use more devices or a smaller model.")
	case foreign(short):
		b.WriteString("End what holds the memory, or use another device; the pool starts by itself when there is enough.")
	default:
		b.WriteString("Stop a pool that holds the memory, use another device, or lower ctx or slots; the pool starts by itself when there is enough.")
	}
	switch need.Source {
	case Configured:
		b.WriteString(" The need is the key vram of the pool file.")
	case Measured:
		b.WriteString(" The need was measured in an earlier run; the key vram of the pool file overrides it.")
	case Estimated:
		b.WriteString(" The need is an estimate from the model's files; the key vram of the pool file overrides it.")
	case Claimed:
		fmt.Fprintf(&b, " The engine claims this share of the device whatever the model: lower it in args (%s).", need.ClaimFlag)
	}
	return b.String()
}

// foreign reports whether a process that is no engine of ours holds memory of a device that is short.
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
