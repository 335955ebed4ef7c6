// Package shortage formats the message about too little GPU memory: how much is missing, and who
// uses it. The manager, pool-gate and poolctl share it.
//
// It owns the text. It imports little, so that pool-gate stays small, and must not know where a
// need comes from.
package shortage

import (
	"fmt"
	"strings"

	"github.com/pool-managerd/pool-managerd/nvml/wire"
	"github.com/pool-managerd/pool-managerd/units/memory/ram"
	"github.com/pool-managerd/pool-managerd/units/pool"
)

// maxHolders is how many holders of a device's memory the text names.
const maxHolders = 4

// Clause returns "GPU 0 (Tesla T4): needs 6.0 GiB, and 2.1 GiB of 15.0 GiB is free (held by …)".
// The name is the device's name in the text.
func Clause(s wire.Short, name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: needs %s, and %s", name, ram.Size(s.Need), ram.Size(s.Free))
	if s.Total > 0 {
		fmt.Fprintf(&b, " of %s", ram.Size(s.Total))
	}
	b.WriteString(" is free")
	if s.Reserved > 0 {
		fmt.Fprintf(&b, ", of which %s is reserved for replicas that are loading", ram.Size(s.Reserved))
	}
	if list := Holders(s.Holders); list != "" {
		b.WriteString(" (held by " + list + ")")
	}
	return b.String()
}

// Holders lists who uses the memory, in the given order; "" if no one is known.
func Holders(list []wire.Holder) string {
	var names []string
	for i, h := range list {
		if i == maxHolders {
			names = append(names, fmt.Sprintf("%d more", len(list)-i))
			break
		}
		name := holder(h)
		switch {
		case h.Used > 0:
			name += " with " + ram.Size(h.Used)
		case h.Reserved > 0:
			name += ", " + ram.Size(h.Reserved) + " reserved"
		}
		names = append(names, name)
	}
	return strings.Join(names, ", ")
}

// holder names a replica by its pool, anything else by its unit and process.
func holder(h wire.Holder) string {
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
