package devices

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pool-managerd/pool-managerd/registry"
)

// Claim is one replica's wish for devices.
type Claim struct {
	Pool    string
	Replica int
	Shared  bool // the pool's key shared
	Running bool // it has them already
	Targets []Target
}

// Claimed names the replica of a claim.
type Claimed struct {
	Pool    string
	Replica int
}

// Overlaps returns why each replica whose mask meets another's may not have it. Who has the device
// already keeps it, else who comes first by pool and replica. Two pools that both say shared may
// meet. A MIG partition meets its whole GPU and itself, not another partition.
func Overlaps(claims []Claim) map[Claimed]*registry.Failure {
	sorted := slices.Clone(claims)
	slices.SortStableFunc(sorted, func(a, b Claim) int {
		if a.Running != b.Running {
			if a.Running {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Replica, b.Replica))
	})
	refused := make(map[Claimed]*registry.Failure)
	var granted []Claim
	for _, c := range sorted {
		if f := against(c, granted); f != nil {
			refused[Claimed{c.Pool, c.Replica}] = f
			continue
		}
		granted = append(granted, c)
	}
	return refused
}

func against(c Claim, granted []Claim) *registry.Failure {
	for _, g := range granted {
		if c.Shared && g.Shared {
			continue
		}
		for _, mine := range c.Targets {
			for _, theirs := range g.Targets {
				if meet(mine, theirs) {
					return invalid(fmt.Sprintf("device %q (%s) is given to pool %s, replica r%d", mine.Entry, mine.UUID,
						g.Pool, g.Replica),
						"Give the pools different devices, or set shared = true in both.")
				}
			}
		}
	}
	return nil
}

func meet(a, b Target) bool {
	return a.UUID == b.UUID || a.GPU == b.GPU && a.MIG != b.MIG
}
